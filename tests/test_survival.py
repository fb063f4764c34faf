"""Kills, damage, a full disk, a second process: a run goes on by the same command and ends with the same numbers, or
says what is wrong."""

import errno
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, rewrite

from asl_min import train_policy, train_prompt_generator, train_reward_model
from asl_min.model import ROLES
from asl_min.rounds import run_rounds
from asl_min.run import durable, run_dir, stopping, terminal
from asl_min.run.checkpoint import Journal, State
from asl_min.run.command import clear_errors
from asl_min.run.errors import InputError
from reproduce.verify import compare, contents, tolerances

PHASES = {"prompt_generator": train_prompt_generator, "reward_model": train_reward_model, "policy": train_policy}


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> Path:
    """A run of one round, never interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    run_dir.create(run, small(config))
    run_rounds(run)
    return run


@pytest.fixture(scope="module")
def fed(whole, tmp_path_factory) -> Path:
    """The same, with tasks and verification data made by hand: the random model's own are none."""
    run = before(whole, tmp_path_factory.mktemp("fed") / "run", "reward_model")
    tasks = [
        {"question": f"What is the capital of {name}?", "answer": name, "parent": {}}
        for name in ("France", "Italy", "Spain", "Peru")
    ]
    triples = [
        {"question": t["question"], "reference": t["answer"], "verified": True, "answer": a, "verdict": True}
        for t in tasks
        for a in (t["answer"], "Rome")
    ]
    folder = run_dir.phase_dir(run, 1, "prompt_generator")
    rewrite(folder / "tasks.jsonl", tasks)
    rewrite(folder / "verification.jsonl", triples)
    run_rounds(run)
    return run


def small(config):
    return replace(config, rounds=1, pg_max_steps=3, eval_per_hop=1, eval_judgments=2, eval_tasks=1)


def before(whole: Path, folder: Path, role: str) -> Path:
    """A copy of the run as it was when a phase began."""
    shutil.copytree(whole, folder)
    for later in (*ROLES[ROLES.index(role) :], "evaluation"):
        shutil.rmtree(run_dir.phase_dir(folder, 1, later))
    return folder


class Killed(BaseException):
    """Ends a process at once, as far as Python can."""


def killing(monkeypatch, number: int) -> None:
    """The next process dies right after its write `number - 1`, or if that is 0, at its first, having written half of
    the file."""
    count, append, replacing = itertools.count(1), Journal.append, durable.replacing

    def killed_append(journal, name, rows, remember=True):
        if number == 0:
            journal.folder.joinpath(f"{name}.jsonl").write_bytes(b'{"half of a ro')
            raise Killed
        append(journal, name, rows, remember)
        if next(count) == number:
            raise Killed

    @contextmanager
    def killed_replacing(path):
        with replacing(path) as file:
            if number == 0:
                file.write(b"half of a fi")
                file.flush()
                raise Killed
            yield file
        if next(count) == number:
            raise Killed

    monkeypatch.setattr(Journal, "append", killed_append)
    monkeypatch.setattr(durable, "replacing", killed_replacing)


@pytest.mark.parametrize("role", ROLES)
def test_phase_killed_at_any_write_goes_on_to_the_same_files(whole, fed, tmp_path, role, monkeypatch):
    """Killed after its 1st, 3rd, 5th... write, each time in a folder of its own."""
    wanted = contents(run_dir.phase_dir(whole if role == "prompt_generator" else fed, 1, role))
    for number in itertools.chain([0], itertools.count(1, 2)):
        run = before(fed, tmp_path / str(number), role)
        killing(monkeypatch, number)
        try:
            PHASES[role].run_phase(run, 1)
            break
        except Killed:
            monkeypatch.undo()
        PHASES[role].run_phase(run, 1)
        assert contents(run_dir.phase_dir(run, 1, role)) == wanted, number
    monkeypatch.undo()
    assert number > 8


def killed_after(monkeypatch, step: int) -> list[int]:
    """The next process dies right after it saved this step. Returns the list of the steps saved, which grows."""
    honest, saved = Journal.save, []

    def save(journal, state):
        honest(journal, state)
        saved.append(state.step)
        if state.step == step and saved.count(step) == 1:
            raise Killed

    monkeypatch.setattr(Journal, "save", save)
    return saved


def test_interrupted_phase_does_not_repeat_its_finished_steps(whole, tmp_path, monkeypatch):
    run, saved = before(whole, tmp_path / "run", "prompt_generator"), killed_after(monkeypatch, 1)
    with pytest.raises(Killed):
        train_prompt_generator.run_phase(run, 1)
    train_prompt_generator.run_phase(run, 1)
    assert saved == [0, 1, 2]


def configured(run: Path, **values) -> Path:
    """The run with these values in its config."""
    file = run / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values))
    return run


def test_phase_killed_between_saves_goes_on_from_the_last_one_to_the_same_files(whole, tmp_path, monkeypatch):
    """Saved after steps 2 and 5 and after the last; killed in step 4, whose rows are on the disk already."""
    steps = {"pg_max_steps": 7}
    straight = configured(before(whole, tmp_path / "straight", "prompt_generator"), **steps)
    train_prompt_generator.run_phase(straight, 1)
    run = configured(before(whole, tmp_path / "run", "prompt_generator"), save_every=3, **steps)
    honest, saved, folder = stopping.told, killed_after(monkeypatch, -1), run_dir.phase_dir(run, 1, "prompt_generator")

    def told(accelerator):
        if len((folder / "metrics.jsonl").read_text().splitlines()) == 5 and len(saved) == 1:
            raise Killed
        return honest(accelerator)

    monkeypatch.setattr(stopping, "told", told)
    with pytest.raises(Killed):
        train_prompt_generator.run_phase(run, 1)
    monkeypatch.setattr(stopping, "told", honest)
    train_prompt_generator.run_phase(run, 1)
    assert saved == [2, 5, 6]
    assert contents(folder) == contents(run_dir.phase_dir(straight, 1, "prompt_generator"))


def test_phase_told_to_end_saves_the_step_under_way_whatever_save_every_says(whole, tmp_path, monkeypatch):
    run = configured(before(whole, tmp_path / "run", "prompt_generator"), save_every=100)
    folder = run_dir.phase_dir(run, 1, "prompt_generator")
    monkeypatch.setattr(stopping, "told", lambda accelerator: True)
    with pytest.raises(SystemExit) as stopped:
        train_prompt_generator.run_phase(run, 1)
    assert stopped.value.code == 143 and Journal(folder).load().step == 0
    monkeypatch.undo()
    saved = killed_after(monkeypatch, -1)
    train_prompt_generator.run_phase(run, 1)
    assert saved == [2]
    assert contents(folder) == contents(run_dir.phase_dir(whole, 1, "prompt_generator"))


def flip(path: Path) -> None:
    """Change one bit of the first byte."""
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [flip, shorten])
@pytest.mark.parametrize("file", ["checkpoint.json", "checkpoint_0000.pt", "drafts.jsonl"])
def test_damaged_state_is_not_used(whole, tmp_path, monkeypatch, file, damage):
    run = before(whole, tmp_path / "run", "prompt_generator")
    killed_after(monkeypatch, 0)
    with pytest.raises(Killed):
        train_prompt_generator.run_phase(run, 1)
    folder = run_dir.phase_dir(run, 1, "prompt_generator")
    assert Journal(folder).load() is not None
    damage(folder / file)
    assert Journal(folder).load() is None
    train_prompt_generator.run_phase(run, 1)
    assert contents(folder) == contents(run_dir.phase_dir(whole, 1, "prompt_generator"))


def test_state_of_an_earlier_version_counts_as_none(tmp_path):
    torch.save({}, tmp_path / "checkpoint_0000.pt")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    files = {"metrics.jsonl": [3, durable.digest(tmp_path / "metrics.jsonl")]}
    facts = {"rewards": [0.5], "cost": {}, "last": []}
    state = {"step": 0, "facts": facts, "files": files, "weights": durable.digest(tmp_path / "checkpoint_0000.pt")}
    (tmp_path / "checkpoint.json").write_text(json.dumps(state))
    assert Journal(tmp_path).load() is None


def test_state_is_read_without_pickled_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    Journal(tmp_path).save(State(0, {}, [], {"weights": Trap()}))
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        Journal(tmp_path).load()
    assert not (tmp_path / "sprung").exists()


# --- the journal alone


ROWS = [{"text": f"row {i}", "values": [0.1] * 20} for i in range(10)]


def state_at(step: int) -> State:
    return State(step, {"steps": step + 1}, ROWS, {"weights": [torch.arange(50.0)]})


def test_journal_comes_back_as_it_was_saved(tmp_path):
    journal = Journal(tmp_path)
    for step in range(3):
        journal.append("drafts", ROWS)
        journal.save(state_at(step))
    journal.append("drafts", ROWS)  # after the last save, and so cut off
    journal.append("outcomes", ROWS)
    found = Journal(tmp_path)
    state = found.load()
    found.rewind()
    assert (state.step, state.cost, state.episodes) == (2, {"steps": 3}, ROWS)
    assert torch.equal(state.tensors["weights"][0], torch.arange(50.0))
    assert found.rows == {"drafts": ROWS * 3} and not (tmp_path / "outcomes.jsonl").exists()
    found.append("drafts", ROWS)
    found.save(state_at(3))
    assert Journal(tmp_path).load().step == 3  # the checksums went on where they were


def test_rows_that_nobody_reads_again_are_in_the_file_and_not_in_memory(tmp_path):
    journal = Journal(tmp_path)
    journal.append("drafts", ROWS, remember=False)
    journal.save(state_at(0))
    found = Journal(tmp_path)
    assert not journal.rows["drafts"] and found.load() and found.rows["drafts"] == ROWS


def test_save_does_not_read_growing_files_again(tmp_path):
    """A file that was damaged after its rows were appended and before the save: had the save read it, its checksum
    would be that of the damaged file."""
    journal = Journal(tmp_path)
    journal.append("drafts", ROWS)
    flip(tmp_path / "drafts.jsonl")
    journal.save(state_at(0))
    assert Journal(tmp_path).load() is None


def test_weights_are_not_copied_in_memory_on_their_way_to_the_disk(tmp_path):
    weights = torch.zeros(2**21)  # 8 MiB
    tracemalloc.start()
    Journal(tmp_path).save(State(0, {}, [], {"weights": [weights]}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert torch.equal(Journal(tmp_path).load().tensors["weights"][0], weights)


def test_save_hashes_and_writes_no_more_after_many_steps(tmp_path, monkeypatch):
    journal, hashed, honest = Journal(tmp_path), [], hashlib.sha256

    def save(step: int) -> tuple[int, int]:
        """Bytes hashed and bytes of the state."""
        hashed.clear()
        journal.save(state_at(step))
        return sum(hashed), sum(path.stat().st_size for path in tmp_path.glob("checkpoint*"))

    class Counting:
        def __init__(self, data=b""):
            self.honest = honest()
            self.update(data)

        def update(self, data):
            hashed.append(len(data))
            self.honest.update(data)

        def hexdigest(self):
            return self.honest.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Counting)
    journal.append("drafts", ROWS)
    early = save(100)
    for _ in range(500):
        journal.append("drafts", ROWS)
    late = save(600)
    assert early[0] > 0 and late[0] == early[0] and late[1] - early[1] < 10


# --- damage after the end of a phase


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one bit": flip,
    "gone": lambda path: path.unlink(),
    "of another form": lambda path: path.write_text('{"files": []}'),
}


FILES = ["prompt_generator/drafts.jsonl", "policy/adapter/adapter_model.safetensors", "policy/done.json"]
CASES = [
    (file, damage) for file in FILES for damage in DAMAGES if (file, damage) != ("policy/done.json", "gone")
]  # that is an unfinished phase


@pytest.mark.parametrize(("file", "damage"), CASES)
def test_damaged_file_is_named_and_computed_again(whole, tmp_path, capsys, file, damage):
    run = shutil.copytree(whole, tmp_path / "run")
    DAMAGES[damage](run / "round_01" / file)
    if file.startswith("prompt_generator"):
        with pytest.raises(InputError, match=r"drafts\.jsonl: damaged"):
            train_reward_model.run_phase(run, 1)
    run_rounds(run)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "is damaged: computing this phase again" in said
        and ("done.json" if "done" in file else file.split("/")[-1]) in said
    )
    assert contents(run) == contents(whole)


def test_state_left_at_the_end_of_a_phase_is_cleared(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    for name in ("checkpoint.json", "checkpoint_0002.pt"):
        (run_dir.phase_dir(run, 1, "policy") / name).write_text("{}")
    run_rounds(run)
    assert contents(run) == contents(whole)


def test_state_of_a_phase_after_a_damaged_one_is_dropped(whole, tmp_path):
    """An interrupted policy phase would go on with the tasks of the damaged files."""
    run = shutil.copytree(whole, tmp_path / "run")
    policy = run_dir.phase_dir(run, 1, "policy")
    (policy / run_dir.DONE).unlink()
    for name in ("checkpoint.json", "checkpoint_0002.pt"):
        (policy / name).write_text("{}")
    flip(run / "round_01" / "prompt_generator" / "drafts.jsonl")
    assert len(run_dir.mend(run, 1)) == 1 and not list(policy.glob("checkpoint*"))


def test_damaged_evaluation_alone_is_computed_again(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    file, trained = run / "round_01" / "evaluation" / "grm.jsonl", run / "round_01" / "policy" / "done.json"
    file.write_text("")
    written = trained.stat().st_mtime_ns
    run_rounds(run)
    assert contents(run) == contents(whole) and trained.stat().st_mtime_ns == written


# --- full disk, signals, two at once


def test_full_disk_is_a_clear_error_and_the_phase_goes_on_later(whole, tmp_path, monkeypatch, capsys):
    run, calls, honest = before(whole, tmp_path / "run", "policy"), [], os.fsync

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SystemExit) as stopped, clear_errors():
        train_policy.run_phase(run, 1)
    assert stopped.value.code == 1 and "no space left on the disk" in capsys.readouterr().err
    monkeypatch.undo()
    train_policy.run_phase(run, 1)
    assert contents(run_dir.phase_dir(run, 1, "policy")) == contents(run_dir.phase_dir(whole, 1, "policy"))


def start(run: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "asl_min.train_prompt_generator", "--run", str(run), "--round", "1"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    end = time.time() + 120
    while not condition():
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.02)


def test_process_told_to_end_or_killed_goes_on_and_a_second_one_is_refused(whole, tmp_path):
    """The real command: SIGTERM after the first step, then a second process beside it, then SIGKILL, then to its
    end."""
    run = before(whole, tmp_path / "run", "prompt_generator")
    configured(run, pg_max_steps=12)
    folder = run_dir.phase_dir(run, 1, "prompt_generator")
    state = folder / "checkpoint.json"
    first = start(run)
    wait_for(state.is_file, first)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 143 and "the same command goes on from here" in said
    step = json.loads(state.read_text())["step"]
    second = start(run)
    wait_for(lambda: json.loads(state.read_text())["step"] > step, second)
    second.send_signal(signal.SIGSTOP)  # else it may be at its end before the third one has started
    third = start(run)
    _, said = third.communicate(timeout=120)
    assert third.returncode == 2 and f"process {second.pid} is at work on this run" in said
    second.kill()
    second.wait()
    train_prompt_generator.run_phase(run, 1)
    straight = before(whole, tmp_path / "straight", "prompt_generator")
    shutil.copy(run / "config.yaml", straight / "config.yaml")
    train_prompt_generator.run_phase(straight, 1)
    assert contents(folder) == contents(run_dir.phase_dir(straight, 1, "prompt_generator"))


def test_a_finished_run_shows_its_table_once(whole, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(terminal, "say", lambda text, event, **facts: said.append(event))
    run_rounds(Path(shutil.copytree(whole, tmp_path / "run")))
    assert said == ["round", "done"]


# --- make verify


def recorded(mean: float) -> dict:
    accuracy = {"hop1": mean, "hop2": mean, "hop3": mean, "mean": mean}
    return {
        "rounds": [
            {
                "accuracy": accuracy,
                "accuracy_greedy": accuracy,
                "grm_balanced_accuracy": 0.7,
                "pg_answerable": 0.9,
                "pg_answer_right": None,
            }
        ]
    }


def test_verify_tells_equal_from_near_and_far():
    runs = {"asl": {"b01": [recorded(mean) for mean in (0.40, 0.45, 0.50)]}, "few": {"b01": [recorded(0.5)]}}
    tolerance = tolerances(runs, "few")
    assert tolerance["mean"] == pytest.approx([20.0]) and tolerance["GRM"] == pytest.approx([2.0])
    rows, equal = compare(recorded(0.5), recorded(0.5), tolerance)
    assert (
        equal and all(row[-1] for row in rows) and {row[1] for row in rows} == {"mean", "greedy", "GRM", "answerable"}
    )
    assert compare(recorded(0.94485), recorded(0.9448491), tolerance)[1]  # a record is rounded
    rows, equal = compare(recorded(0.5), recorded(0.51), tolerance)
    assert not equal and all(row[-1] for row in rows)
    rows, equal = compare(recorded(0.5), recorded(0.9), tolerance)
    assert [row[1] for row in rows if not row[-1]] == ["greedy", "mean"]
    runs["few"]["b01"] += [recorded(0.5), recorded(0.5)]
    assert tolerances(runs, "few")["mean"] == [2.0]
    with pytest.raises(InputError, match="two seeds of few"):
        tolerances({}, "few")


def test_adapter_config_is_the_same_from_every_process(whole):
    facts = json.loads((run_dir.phase_dir(whole, 1, "policy") / "adapter" / "adapter_config.json").read_text())
    assert facts["target_modules"] == sorted(facts["target_modules"]) and len(facts["target_modules"]) > 5


def test_second_command_leaves_the_config_of_a_run_at_work_as_it_is(config, tmp_path):
    """Until the base is evaluated no round has begun, so that another config would be accepted."""
    run_dir.create(tmp_path, config)
    with run_dir.held(tmp_path), pytest.raises(InputError, match="is at work on this run"):
        run_dir.create(tmp_path, replace(config, seed=9))
    assert run_dir.read_config(tmp_path) == config


def test_run_whose_prompts_were_edited_is_refused(config, tmp_path):
    prompts = tmp_path / "mine.yaml"
    shutil.copy(ROOT / "asl_min" / "prompts" / "tiny.yaml", prompts)
    mine = replace(config, prompts=str(prompts))
    run_dir.create(tmp_path / "run", mine)
    run_dir.begin(tmp_path / "run", 0, "evaluation")
    run_dir.create(tmp_path / "run", mine)
    prompts.write_text(prompts.read_text().replace("solve:", "please solve:"))
    with pytest.raises(InputError, match=r"prompts of its prompts\.yaml"):
        run_dir.create(tmp_path / "run", mine)
