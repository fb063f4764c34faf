"""GRPO: hand-worked advantages and losses, and that neither batching, padding nor the number of processes changes the
update."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import two_processes
from accelerate import Accelerator
from helpers import launch, make_episode, make_groups
from safetensors.torch import load_file

from asl_min.config import dump_config
from asl_min.episode import Episode
from asl_min.grpo import Learner, Scorer, advantages, grpo_loss, is_clipped, k3, sampler_weights
from asl_min.model import load_backbone
from asl_min.packing import MicroBatch, Tree, micro_batches, trees

TESTS = Path(__file__).parent


def learner_of(config) -> Learner:
    return Learner(Accelerator(), load_backbone(config, {}), "shared", config)


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.named_parameters() if "lora_" in name}


def updated(config, groups) -> dict[str, torch.Tensor]:
    learner = learner_of(config)
    learner.step(groups)
    return weights(learner)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys() and a
    return max((a[name] - b[name]).abs().max().item() for name in a)


@torch.no_grad()
def score(model, batch: MicroBatch, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies, [sampled tokens]."""
    logprobs, entropies = Scorer(model, temperature)(batch.ids, batch.depths, batch.ends, batch.nodes, batch.parents)
    return logprobs[batch.token_nodes], entropies[batch.token_nodes]


def logprob(learner: Learner, episode) -> float:
    (batch,) = micro_batches([episode], 1)
    return score(learner.model, batch, learner.config.temperature)[0].sum().item()


# --- advantages


def test_advantages_by_hand():
    # 1, 0, 0, 1: mean 1/2, std 1/2, so +-1; 2, 0, 0, 0: mean 1/2, std sqrt(3)/2, so 1.5 / 0.8660 = 1.7320 and -0.5774
    found = advantages(np.array([[1.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.0]]))
    assert found == pytest.approx(np.array([[1, -1, -1, 1], [1.73205, -0.57735, -0.57735, -0.57735]]), abs=1e-4)


def test_advantages_do_not_depend_on_the_scale_of_the_rewards():
    assert advantages([[100.0, 0.0]]) == pytest.approx(advantages([[0.6, 0.4]]), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3, 1e9])
def test_group_of_equal_rewards_has_advantages_of_exactly_zero(value):
    assert (advantages([[value] * 7]) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_group_with_a_reward_that_is_no_number_has_advantages_of_zero_and_leaves_the_others(bad):
    found = advantages([[bad, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert (found[0] == 0).all()
    assert (found[1] == advantages([[1.0, 0.0, 0.0]])[0]).all()


# --- batching


def test_micro_batches_hold_every_episode_once_within_the_budget():
    episodes = [e for group in make_groups() for e in group]
    batches = micro_batches(episodes, 300)
    assert len(batches) > 1 and all(b.ids.numel() <= 300 for b in batches)
    assert sum(len(b.ids) for b in batches) == len(episodes)  # they share nothing: a tree each
    assert sum(len(b.token_nodes) for b in batches) == sum(e.n_sampled for e in episodes)


def test_episode_longer_than_the_budget_is_a_batch_of_its_own():
    episodes = [make_episode(0, 90, [80]), make_episode(1, 20, [10]), make_episode(2, 90, [80])]
    assert [len(b.ids) for b in micro_batches(episodes, 50)] == [1, 1, 1]


def test_padding_changes_no_score(config):
    model = load_backbone(config, {})
    episodes = [make_episode(i, length, range(4, length)) for i, length in enumerate((20, 90, 33))]
    together = torch.cat([torch.stack(score(model, b)) for b in micro_batches(episodes, 10_000)], 1)
    alone = torch.cat(
        [torch.stack(score(model, b)) for e in (episodes[1], episodes[2], episodes[0]) for b in micro_batches([e], 1)],
        1,
    )
    assert together.shape[1] == 16 + 86 + 29
    assert torch.allclose(together, alone, atol=1e-5)


def test_score_is_the_plain_log_softmax_at_the_temperature(config):
    model, episode = load_backbone(config, {}), make_episode(3, 12, [5, 6, 9])
    (batch,) = micro_batches([episode], 1)
    logprobs, entropies = score(model, batch, 0.5)
    with torch.no_grad():
        plain = (model(torch.tensor([episode.ids])).logits[0] / 0.5).log_softmax(-1)
    for found, entropy, place in zip(logprobs, entropies, (5, 6, 9), strict=True):
        assert found.item() == pytest.approx(plain[place - 1, episode.ids[place]].item(), abs=1e-5)
        assert entropy.item() == pytest.approx(-(plain[place - 1].exp() * plain[place - 1]).sum().item(), abs=1e-5)


# --- trees: what episodes share from the start is computed once


def branching(seed: int = 0, samples: int = 6, vocab_size: int = 300) -> list[Episode]:
    """Episodes of one prompt that part at several depths, at half of their length or later; the last is the first once
    more."""
    rng = random.Random(seed)
    ids = [rng.randrange(vocab_size) for _ in range(80)]
    mask = [10 <= i < 30 or i >= 50 for i in range(80)]
    found = []
    for sample in range(samples):
        part, length = rng.randrange(41, 70), rng.randrange(70, 81)
        own = [*ids[:part], *(rng.randrange(vocab_size) for _ in range(length - part))]
        found.append(
            replace(
                make_episode(sample, length, []),
                ids=tuple(own),
                mask=tuple(mask[:length]),
                reward=float(sample % 2),
                logprobs=(-1.0,) * length,
            )
        )
    return [*found, replace(found[0], reward=1.0)]


def test_tree_by_hand():
    #      0 1 2 3         node 0, 1 shared by all; 2 by the first two; 3, 4 and 5 their own
    rows = [(7, 8, 5, 1), (7, 8, 5, 2), (7, 8, 9)]
    episodes = [replace(make_episode(i, len(row), [2, 3]), ids=row) for i, row in enumerate(rows)]
    (tree,) = trees(episodes, 100)
    assert (tree.ids, tree.depths, tree.ends) == ([7, 8, 5, 1, 2, 9], [0, 1, 2, 3, 3, 2], [6, 6, 5, 4, 5, 6])
    assert [path for _, path in tree.paths] == [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5]]


def test_a_token_that_was_given_and_one_that_was_sampled_are_two_nodes():
    pair = [make_episode(0, 6, [4, 5]), make_episode(0, 6, [5])]
    (tree,) = trees(pair, 100)
    assert len(tree.ids) == 8


def test_episode_that_shares_less_than_half_is_a_tree_of_its_own():
    whole = make_episode(0, 20, [19])
    other = replace(whole, ids=(*whole.ids[:9], *make_episode(1, 11, []).ids))
    assert [len(t.ids) for t in trees([whole, other], 100)] == [20, 20]


def test_trees_stay_within_the_budget_and_hold_every_episode():
    episodes = branching(samples=12)
    found = trees(episodes, 150)
    assert len(found) > 1 and all(len(t.ids) <= 150 for t in found)
    assert sorted(e.ids for t in found for e, _ in t.paths) == sorted(e.ids for e in episodes)
    assert all(tuple(t.ids[n] for n in path) == e.ids for t in found for e, path in t.paths)


def test_scores_in_a_tree_are_those_of_the_episodes_alone(config):
    model = load_backbone(config, {})
    episodes = branching()
    (batch,) = micro_batches(episodes, 10_000)
    assert len(batch.ids) == 1 and batch.ids.numel() < sum(len(e.ids) for e in episodes)
    found = dict.fromkeys(map(id, episodes))
    start = 0
    for episode in sorted(episodes, key=lambda e: tuple(zip(e.ids, e.mask, strict=True))):
        found[id(episode)] = torch.stack(score(model, batch))[:, start : start + episode.n_sampled]
        start += episode.n_sampled
    for episode in episodes:
        (alone,) = micro_batches([episode], 1)
        assert torch.allclose(found[id(episode)], torch.stack(score(model, alone)), atol=1e-5)


def test_update_from_trees_is_that_from_episodes_alone(changed, monkeypatch):
    """The reference packs nothing: every episode is a chain of its own."""
    config = changed(minibatches=1)
    groups = [branching(seed) for seed in range(3)]
    packed = updated(config, groups)
    monkeypatch.setattr(Tree, "shared", lambda self, episode: 0)
    assert distance(packed, updated(config, groups)) < 1e-5


@pytest.mark.parametrize("minibatches", [1, 2])
def test_size_of_micro_batches_changes_nothing(changed, minibatches):
    small, large = (changed(micro_batch_tokens=n, minibatches=minibatches) for n in (1, 100_000))
    groups = make_groups()
    assert distance(updated(small, groups), updated(large, groups)) < 1e-5


# --- the update


def test_step_moves_the_adapter_alone(config):
    learner = learner_of(config)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.step(make_groups())
    moved = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(".shared." in name for name in moved)


def test_groups_without_spread_change_nothing(config):
    groups = [[replace(e, reward=1.0) for e in group] for group in make_groups()]
    learner = learner_of(config)
    before = weights(learner)
    found, metrics = learner.step(groups)
    assert distance(weights(learner), before) == 0
    assert metrics["frac_reward_zero_std"] == 1.0 and metrics["loss_tokens"] == 0
    assert all(e.advantage == 0 for group in found for e in group)


def test_groups_without_spread_add_nothing_to_the_others(changed):
    config = changed(minibatches=1)
    groups = make_groups()
    dead = [[replace(e, reward=0.5) for e in group] for group in make_groups(seed=9)]
    assert distance(updated(config, groups), updated(config, [dead[0], *groups, *dead[1:]])) == 0


def test_reward_that_is_no_number_changes_nothing(config):
    groups = [[replace(group[0], reward=float("nan")), *group[1:]] for group in make_groups()]
    learner = learner_of(config)
    before = weights(learner)
    learner.step(groups)
    assert distance(weights(learner), before) == 0


def test_episode_without_sampled_tokens_is_harmless(config):
    groups = make_groups()
    groups[0][0] = make_episode(99, 30, [], reward=5.0)
    found, metrics = learner_of(config).step(groups)
    assert all(np.isfinite(value) for value in metrics.values()) and found[0][0].advantage > 0


@pytest.mark.parametrize("minibatches", [1, 2])
def test_better_episode_becomes_likelier_and_worse_one_less_likely(changed, minibatches):
    groups = [
        [make_episode(10 * p, 40, range(10, 40), 1.0), make_episode(10 * p + 1, 40, range(10, 40), 0.0)]
        for p in range(2)
    ]
    learner = learner_of(changed(minibatches=minibatches))
    before = [[logprob(learner, e) for e in group] for group in groups]
    learner.step(groups)
    for group, (better, worse) in zip(groups, before, strict=True):
        assert logprob(learner, group[0]) > better + 0.01 and logprob(learner, group[1]) < worse - 0.01


def test_groups_come_back_with_their_advantages(config):
    groups, _ = learner_of(config).step(make_groups())
    assert [[round(e.advantage, 4) for e in group] for group in groups[:2]] == [[1, -1, 1, -1], [-1, 1, -1, 1]]


def test_samplers_logprobs_have_no_influence(config):
    groups = make_groups()
    other = [
        [replace(e, logprobs=tuple(lp - 3.0 * m for lp, m in zip(e.logprobs, e.mask, strict=True))) for e in group]
        for group in groups
    ]
    learners = [learner_of(config) for _ in range(2)]
    gaps = [
        learner.step(g)[1]["sampling_logp_difference"] for learner, g in zip(learners, (groups, other), strict=True)
    ]
    assert distance(weights(learners[0]), weights(learners[1])) == 0
    assert gaps[0] != pytest.approx(gaps[1], abs=0.1)


def test_weights_are_the_truncated_ratio_to_the_sampler():
    """Where the sampler's log-probability is the trainer's: 1. Lower by 5: the cap. Higher by 1: exp(-1)."""
    old = torch.tensor([-1.0, -1.0, -1.0])
    found = sampler_weights(old, old + torch.tensor([0.0, -5.0, 1.0]), cap=2.0)
    assert found.tolist() == pytest.approx([1.0, 2.0, float(np.exp(-1))])


def test_ratio_cap_changes_the_update_where_the_sampler_differs(changed):
    groups = make_groups()  # whose sampler's log-probabilities are far from the trainer's
    plain, capped = (updated(changed(ratio_cap=cap, minibatches=1), groups) for cap in (0.0, 2.0))
    assert distance(plain, capped) > 1e-6


# --- the loss by hand: c = 0.2


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # d loss / d logp = -w A
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # clipped at 1.2
        (0.5, 2.0, -1.0, -1.0),  # the smaller of both is the one without the clip
        (0.5, -2.0, 1.6, 0.0),  # clipped at 0.8
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_grpo_loss_by_hand(ratio, advantage, loss, gradient):
    logprobs = torch.tensor([-1.0 + np.log(ratio)], dtype=torch.float64, requires_grad=True)
    old, advantages_T = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    found = grpo_loss(logprobs, old, advantages_T, clip=0.2)
    found.backward()
    assert (found.item(), logprobs.grad.item()) == (pytest.approx(loss), pytest.approx(gradient))
    assert grpo_loss(logprobs, old, advantages_T, 0.2, weights=0.5).item() == pytest.approx(loss / 2)
    assert is_clipped(logprobs, old, 0.2).item() is (ratio in (1.5, 0.5))


def test_grpo_loss_is_a_sum_over_tokens():
    logprobs, advantages_T = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, -1.0, 0.5])
    assert grpo_loss(logprobs, logprobs, advantages_T, 0.2).item() == pytest.approx(-0.5)


def test_k3_by_hand():
    # d = ln 2: 2 - ln 2 - 1; d = 0: 0
    found = k3(torch.tensor([-1.0, -1.0]), torch.tensor([-1.0 + np.log(2), -1.0]))
    assert found.tolist() == pytest.approx([1 - np.log(2), 0.0], abs=1e-6)


def test_tokens_after_the_last_sampled_one_have_no_influence(changed):
    config = changed(minibatches=1)
    groups = [[make_episode(i, 40, range(10, 30), float(i % 2)) for i in range(4)]]
    other = [[replace(e, ids=(*e.ids[:30], *(7,) * 10)) for e in groups[0]]]
    assert distance(updated(config, groups), updated(config, other)) < 1e-6


def test_tokens_that_were_given_carry_no_loss(changed):
    """Two updates on the same ids: in the first the response in the middle is masked, in the second it is trained
    on."""
    config = changed(minibatches=1)
    masked, trained = (
        [[make_episode(i, 40, places, float(i % 2)) for i in range(2)]]
        for places in ([*range(5, 10), *range(30, 40)], range(5, 40))
    )
    learners = [learner_of(config) for _ in range(2)]
    tokens = [
        learner.step(groups)[1]["loss_tokens"] for learner, groups in zip(learners, (masked, trained), strict=True)
    ]
    assert tokens == [30, 70] and distance(weights(learners[0]), weights(learners[1])) > 1e-4


# --- the metrics


def test_loss_by_hand(changed):
    # ratio 1 at the first step, advantages +1 on 3 tokens and -1 on 1 token: -(3 - 1) / 4
    groups = [[make_episode(0, 20, [5, 6, 7], 1.0), make_episode(1, 20, [5], 0.0)]]
    _, metrics = learner_of(changed(minibatches=1)).step(groups)
    assert metrics["loss"] == pytest.approx(-0.5, abs=1e-5) and metrics["loss_tokens"] == 4


def test_nothing_is_clipped_in_a_single_minibatch(changed):
    _, metrics = learner_of(changed(minibatches=1, learning_rate=0.1)).step(make_groups())
    assert metrics["clip_ratio"] == 0.0


def test_second_minibatch_is_clipped_after_a_large_step(changed):
    _, metrics = learner_of(changed(minibatches=2, learning_rate=0.1)).step(make_groups())
    assert 0 < metrics["clip_ratio"] <= 0.5  # the first half never is


def test_sampler_gap_is_the_mean_distance_to_the_trainers_logprobs(changed):
    learner = learner_of(changed(minibatches=1))
    groups = make_groups(prompts=1)
    own = [[replace(e, logprobs=trainers_logprobs(learner, e, shift=0.25)) for e in groups[0]]]
    assert learner.step(own)[1]["sampling_logp_difference"] == pytest.approx(0.25, abs=1e-4)


def trainers_logprobs(learner: Learner, episode, shift: float) -> tuple[float, ...]:
    (batch,) = micro_batches([episode], 1)
    found = iter(score(learner.model, batch)[0].tolist())
    return tuple(next(found) + shift if sampled else 0.0 for sampled in episode.mask)


def test_kl_to_base_is_zero_for_a_new_adapter_and_grows(config):
    learner = learner_of(config)
    first, second = (learner.step(make_groups(seed=seed))[1]["kl"] for seed in (0, 1))
    assert first == pytest.approx(0.0, abs=1e-9) and second > 1e-4


def next_phase(config) -> Learner:
    """A learner that starts from weights that are no longer the base's."""
    first = learner_of(config)
    first.step(make_groups(seed=2))
    return Learner(first.accelerator, first.model, first.adapter, config)


@pytest.mark.parametrize(("reference", "far"), [("previous", False), ("base", True)])
def test_kl_reference_is_the_start_of_the_phase_or_the_base(changed, reference, far):
    learner = next_phase(changed(kl_reference=reference))
    first, second = (learner.step(make_groups(seed=seed))[1]["kl"] for seed in (0, 1))
    assert (first > 1e-4) is far and second > 1e-4
    assert far or first == pytest.approx(0.0, abs=1e-9)


def test_measuring_the_kl_leaves_the_weights(changed):
    found = [updated(changed(kl_reference=reference), make_groups()) for reference in ("previous", "base")]
    assert distance(*found) == 0


def test_resumed_phase_has_the_same_kl_reference(changed):
    config = changed(kl_reference="previous")
    whole, resumed = next_phase(config), next_phase(config)
    whole.step(make_groups(seed=0))
    resumed.load(whole.state())
    kls = [learner.step(make_groups(seed=1))[1]["kl"] for learner in (whole, resumed)]
    assert kls[0] == kls[1] > 1e-4


def test_kl_penalty_holds_the_adapter_near_the_base(changed):
    found = []
    for kl_coef in (0.0, 10.0):
        learner = learner_of(changed(kl_coef=kl_coef))
        found.append([learner.step(make_groups(seed=seed % 2))[1]["kl"] for seed in range(8)][-1])
    assert found[1] < 0.5 * found[0]


def test_gradients_are_clipped(changed):
    learner = learner_of(changed(max_grad_norm=1e-12, minibatches=1))
    before = weights(learner)
    learner.step(
        make_groups()
    )  # Adam divides by |g| + 1e-8, so clipped to 1e-12 a step is at most 1e-4 of the learning rate
    assert distance(weights(learner), before) < 1e-3 * learner.config.learning_rate


# --- two processes


QUANTIZATIONS = (None, "nf4")


@pytest.fixture(scope="module")
def by_two(config, tmp_path_factory) -> Path:
    """The folder of what one launch of two processes wrote, for all tests of several processes: "two" with few
    micro-batches, uneven in number; with each quantization, layers recomputed and the KL term run without adapter, a
    base for each process ("whole") and one that they share ("shared")."""
    folder, few = tmp_path_factory.mktemp("processes"), {"micro_batch_tokens": 200}
    served = {"backend": "vllm", "server_url": "http://nobody.invalid"}
    trained = {"gradient_checkpointing": True, "kl_coef": 0.01, "minibatches": 2}
    configs = {"two": replace(config, **few)}
    for quantization in QUANTIZATIONS:
        for kind in ("whole", "shared"):
            values = few | served | trained | {"quantization": quantization}
            configs[f"{quantization}_{kind}"] = replace(config, **values)
    for name, values in configs.items():
        (folder / f"{name}.yaml").write_text(dump_config(values))
    launch(str(TESTS / "two_processes.py"), str(folder), ACCELERATE_USE_CPU="true")
    return folder


@pytest.fixture(scope="module")
def one_and_two(by_two) -> tuple[Path, Path]:
    """The folders written by the same script in this process and by two processes."""
    two_processes.main(by_two / "two.yaml", by_two / "one")
    return by_two / "one", by_two / "two"


def results(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("process_*.json"))]


def test_two_processes_really_ran(one_and_two):
    assert [r["processes"] for r in results(one_and_two[0])] == [1]
    assert [r["processes"] for r in results(one_and_two[1])] == [2, 2]


def test_two_processes_make_the_same_update(one_and_two):
    one, two = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in one_and_two)
    assert distance(one, two) < 1e-5


def test_two_processes_log_the_same_metrics(one_and_two):
    (one,), two = results(one_and_two[0]), results(one_and_two[1])
    assert two[0]["metrics"] == two[1]["metrics"]
    for step, other in zip(one["metrics"], two[0]["metrics"], strict=True):
        assert {k: v for k, v in other.items() if k != "kl"} == pytest.approx(
            {k: v for k, v in step.items() if k != "kl"}, rel=1e-3, abs=1e-5
        )


def test_two_processes_share_a_rollout_and_both_get_all_of_it_in_order(one_and_two):
    answers = [f"<answer>{i}</answer>" for i in range(5)]
    assert [r["answers"] for folder in one_and_two for r in results(folder)] == [answers] * 3
    assert [r["played"] for r in results(one_and_two[1])] == [3, 2]


# --- the base shared among processes


@pytest.fixture(params=QUANTIZATIONS)
def whole_and_shared(request, by_two) -> tuple[Path, Path]:
    """The folders written by two processes with a base each, and by two that share one."""
    return by_two / f"{request.param}_whole", by_two / f"{request.param}_shared"


def test_shared_base_makes_the_very_same_update(whole_and_shared):
    whole, shared = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in whole_and_shared)
    assert distance(whole, shared) == 0.0
    assert [r["metrics"] for r in results(whole_and_shared[0])] == [r["metrics"] for r in results(whole_and_shared[1])]


def test_each_weight_of_a_block_is_held_by_one_process(whole_and_shared):
    """Embedding and adapters are held by both."""
    (whole, _), shared = (results(folder) for folder in whole_and_shared)
    assert sum(whole["held"] - r["held"] for r in shared) == whole["blocks"] > 0
    assert all(r["held"] < whole["held"] for r in shared)


def test_tree_of_the_docstring():
    both = [
        replace(make_episode(0, len(ids), [2]), ids=ids, mask=(False,) * 2 + (True,) * (len(ids) - 2))
        for ids in ((5, 6, 7), (5, 6, 8, 9))
    ]
    (tree,) = trees(both, 16)
    assert (tree.ids, tree.depths, tree.ends) == ([5, 6, 7, 8, 9], [0, 1, 2, 2, 3], [5, 5, 3, 5, 5])
    assert [path for _, path in tree.paths] == [[0, 1, 2], [0, 1, 3, 4]]
