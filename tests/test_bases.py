"""How the tiny bases are made: their draw, the dials' file, samples and batches, and Muon."""

import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from asl_min.run.errors import InputError
from asl_min.world.tiny import population
from asl_min.world.tiny.alternate import alternate_world
from asl_min.world.tiny.muon import Muon, orthogonal
from asl_min.world.tiny.teacher import NO_NOISE, Teacher, demonstrate
from asl_min.world.tiny.train_base import VERDICT_WEIGHT, Sample, batches, collate, encode, read_dials
from reproduce import jobs

RULES = yaml.safe_load(population.FILE.read_text())
RANGES = {dial: ends for of_role in RULES["dials"].values() for dial, ends in of_role.items()}


# --- the draw


def test_bases_are_drawn_within_the_ranges_that_were_written_down():
    drawn = population.draw()
    assert list(drawn) == [*RULES["bases"], *RULES["validation"]]
    assert len(RULES["bases"]) >= 12 and not set(RULES["bases"]) & set(RULES["validation"])
    for base in drawn.values():
        assert base.checkpoint in RULES["checkpoints"]
        for dial, value in asdict(base.noise).items():
            assert 0 == RANGES[dial][0] <= value <= RANGES[dial][1]


def test_draw_depends_on_the_seed_alone(tmp_path):
    other = tmp_path / "population.yaml"
    other.write_text(yaml.safe_dump(RULES | {"seed": RULES["seed"] + 1}, sort_keys=False))
    assert population.draw() == population.draw() != population.draw(other)


def test_roles_are_independent_of_each_other(tmp_path):
    """Of many bases dials of different roles do not go together, those of one role do, and each covers its range."""
    other = tmp_path / "population.yaml"
    many = [f"x{number}" for number in range(900)]
    other.write_text(yaml.safe_dump(RULES | {"bases": many, "validation": []}, sort_keys=False))
    bases = population.draw(other).values()
    values = np.array(
        [[RULES["checkpoints"].index(b.checkpoint), *(asdict(b.noise)[d] for d in RANGES)] for b in bases]
    )
    roles = ["checkpoint", *(role for role, dials in RULES["dials"].items() for _ in dials)]
    same = np.array([[a == b for a in roles] for b in roles])
    correlations = np.corrcoef(values.T)
    assert np.abs(correlations[~same]).max() < 0.12 and correlations[same].min() > 0.3
    shares = values[:, 1:] / np.array([high for _, high in RANGES.values()])
    assert shares.min() == 0 and np.allclose(shares.max(0), 1, atol=0.07)
    assert np.allclose(shares.mean(0), 0.25, atol=0.03)


KEPT = [f for place in (jobs.SHIPPED, jobs.RECORDED) for f in sorted((jobs.ROOT / place).iterdir()) if f.is_dir()]


def test_every_base_of_the_population_is_kept_once():
    """And two validation bases, on which the league's learning rates are chosen."""
    assert sorted(folder.name for folder in KEPT) == [*RULES["bases"], "v01", "v03"]


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_kept_base_was_made_with_the_dials_of_its_draw(folder):
    values = yaml.safe_load((folder / population.DIALS).read_text())
    drawn = population.draw()[folder.name]
    assert values == {"checkpoint": drawn.checkpoint} | asdict(drawn.noise)


# --- the dials' file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v | {"wrong_value": 1.5}, "key 'wrong_value' is 1.5"),
        (lambda v: v | {"wrong_value": "much"}, "key 'wrong_value' is 'much'"),
        (lambda v: v | {"hue": 0.5}, "expected the dials"),
        (lambda v: {}, "expected the dials"),
    ],
)
def test_wrong_dials_are_named(tmp_path, change, message):
    file = tmp_path / "dials.yaml"
    file.write_text(yaml.safe_dump(change(asdict(NO_NOISE))))
    with pytest.raises(InputError, match=message):
        read_dials(file)


def test_dials_are_read_as_written(tmp_path):
    file = tmp_path / "dials.yaml"
    file.write_text(yaml.safe_dump(asdict(NO_NOISE) | {"stop_early": 0.25}))
    assert read_dials(file).stop_early == 0.25


# --- samples and batches


def test_a_sample_weighs_the_assistants_tokens_and_its_context_as_told(chat):
    teacher = Teacher(alternate_world(3), random.Random(0))
    for demonstration in (demonstrate(teacher) for _ in range(40)):
        alone, both = encode(demonstration, chat), encode(demonstration, chat, context=0.1)
        said = "".join(text for text, _ in demonstration.turns)
        assert chat.decode(alone.ids[alone.weights > 0].tolist()) == said
        assert np.array_equal(alone.ids, both.ids)
        assert set(both.weights[alone.weights == 0]) == {np.float32(0.1)}
        assert np.array_equal(both.weights[alone.weights > 0], alone.weights[alone.weights > 0])
        assert (VERDICT_WEIGHT in alone.weights) == (demonstration.prompt == "judge")
        if demonstration.prompt == "judge":
            place = int(np.flatnonzero(alone.weights == VERDICT_WEIGHT)[0])
            assert chat.decode([int(alone.ids[place])]).strip() in ("correct", "wrong", "ct", "ong", "t", "g")


def test_batches_hold_every_sample_once_and_keep_their_size():
    rng = random.Random(0)
    samples = [Sample(np.full(rng.randint(5, 400), n, np.int32), np.ones(1)) for n in range(300)]
    made = batches(samples, 2000, random.Random(1))
    assert sorted(int(s.ids[0]) for batch in made for s in batch) == list(range(300))
    assert all(collate_size(batch) <= 2000 or len(batch) == 1 for batch in made)


def collate_size(batch: list[Sample]) -> int:
    return len(batch) * max(len(s.ids) // 16 + 1 for s in batch) * 16


def test_collate_pads_on_the_right_without_weight():
    ids, weights = collate([Sample(np.array([3, 4, 5]), np.array([0.0, 1.0, 2.0])), Sample(np.array([6]), np.ones(1))])
    assert ids.shape == weights.shape == (2, 16)
    assert ids[0, :4].tolist() == [3, 4, 5, 0] and weights[0].sum() == 3 and weights[1].sum() == 1


# --- Muon


@pytest.mark.parametrize("shape", [(3, 8, 32), (2, 32, 8), (1, 16, 16)])
def test_muon_brings_all_singular_values_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_keeps_the_directions_of_a_gradient():
    """The update is U V^T of the gradient's singular vectors: it has the same ones."""
    torch.manual_seed(0)
    gradient = torch.randn(1, 6, 10)
    u, _, v = torch.linalg.svd(gradient[0], full_matrices=False)
    inside = u.T @ orthogonal(gradient)[0] @ v.T
    assert torch.allclose(inside - torch.diag(inside.diagonal()), torch.zeros(6, 6), atol=1e-4)


def test_muon_step_has_the_size_that_its_learning_rate_says():
    """A step moves entries by about 0.2 lr in root mean square, as AdamW's would."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(64, 64))
    weight.grad = torch.randn(64, 64)
    Muon([weight], lr=0.01).step()
    assert weight.pow(2).mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.25)


def test_muon_learns_a_linear_map():
    torch.manual_seed(0)
    target, weight = torch.randn(12, 20), torch.nn.Parameter(torch.zeros(12, 20))
    optimizer, x = Muon([weight], lr=0.3), torch.randn(64, 20)
    first = None
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.3 * (1 - step / 300)
        loss = (x @ (weight - target).T).pow(2).mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3 * first


def test_a_base_that_is_there_is_not_trained_again(tmp_path, script, capsys):
    assert isinstance(population.FILE, Path)
    for name in population.draw():
        (tmp_path / name).mkdir()
    assert script("asl_min.world.tiny.population", "--out", tmp_path, "--dry-run") == 0
    assert capsys.readouterr().out.strip() == "would train:"
    assert script("asl_min.world.tiny.population", "nobody", "--out", tmp_path, "--dry-run") == 2
