"""Asking a checkpoint: what counts as one, what is shown, and that hostile output stays text."""

import io
import json
import re
import sys
from dataclasses import replace

import pytest
from helpers import ROOT, Scripted
from rich.console import Console

from asl_min.config import load_config
from asl_min.episode import Turn
from asl_min.model import ROLES, load_backbone, save_adapter
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.tools import ask
from asl_min.world.oracle import Oracle

TURNS = (
    "<think>look</think>" + '<tool_call>{"name": "retrieve", "arguments": {"query": "France"}}</tool_call>',
    "<think>x</think><answer>A</answer>",
)


@pytest.fixture(scope="module")
def config(config):
    """Room for three pages of countries."""
    return replace(config, max_episode_tokens=4096)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """Two finished rounds, the third begun; every phase with the same new adapter."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_dir.create(folder, config)
    model = load_backbone(config, {})
    for number in (1, 2):
        for role in ROLES:
            path = run_dir.begin(folder, number, role)
            save_adapter(model, "shared", path / "adapter")
            run_dir.finish(path, {})
    run_dir.begin(folder, 3, "prompt_generator")
    return folder


@pytest.fixture
def scripted(monkeypatch):
    class Sampler(Scripted):
        def __init__(self, model, chat):
            super().__init__(chat, *TURNS)

    monkeypatch.setattr("asl_min.sampling.generate.Generator", Sampler)


@pytest.fixture
def said(scripted, script, capsys):
    """What the command says to its arguments."""

    def ask_for(*words: object) -> str:
        assert script("asl_min.tools.ask", *words) == 0
        return capsys.readouterr().out

    return ask_for


def test_checkpoints_of_the_four_kinds(run, config):
    adapter = run / "round_01" / "policy" / "adapter"
    assert ask.adapters_of("base", config) == {}
    assert ask.adapters_of(str(run), config)["policy"] == run / "round_02" / "policy" / "adapter"
    assert ask.adapters_of(str(run / "round_01"), config)["policy"] == adapter
    assert ask.adapters_of(str(adapter), config) == dict.fromkeys(ROLES, adapter)


@pytest.mark.parametrize("name", ["nowhere", "round_xx", "round_09"])
def test_what_is_no_checkpoint_is_refused(run, config, name):
    with pytest.raises(InputError):
        ask.adapters_of(str(run / name), config)


def test_run_is_the_one_around_a_checkpoint(run, config):
    assert ask.config_of([str(run / "round_01" / "policy" / "adapter")], None, []) == config
    assert ask.config_of(["base", str(run)], None, ["threads=2"]) == replace(config, threads=2)


def test_adapter_of_no_run_needs_a_config(tmp_path):
    with pytest.raises(InputError, match=r"belongs to no run; name a --config"):
        ask.config_of(["base", str(tmp_path)], None, [])


def test_base_alone_has_the_config_of_the_miniature(tmp_path, monkeypatch):
    """Wherever the command is given."""
    monkeypatch.chdir(tmp_path)
    assert ask.config_of(["base"], None, ["threads=1"]) == load_config(ROOT / "configs" / "tiny.yaml", threads=1)


def test_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nope: no such run, round or adapter"):
        ask.config_of([str(tmp_path / "nope")], None, [])


def test_adapter_of_the_hub_needs_a_config_and_is_downloaded(run, config, monkeypatch):
    with pytest.raises(InputError, match=r"Owner/adapter: no such path here; if it is an adapter of the hub, name a"):
        ask.config_of(["Owner/adapter"], None, [])
    folder = run / "round_01" / "policy" / "adapter"
    monkeypatch.setattr("asl_min.run.hub.snapshot_download", lambda name, allow_patterns: str(folder))
    assert ask.adapters_of("Owner/adapter", config) == dict.fromkeys(ROLES, folder)
    monkeypatch.setattr("asl_min.run.hub.snapshot_download", lambda name, allow_patterns: str(run))
    with pytest.raises(InputError, match=r"Owner/adapter: holds no peft adapter"):
        ask.adapters_of("Owner/adapter", config)


def test_round_that_the_run_does_not_have_is_named(run, config):
    with pytest.raises(InputError, match="run: has no round 7; its last one is 2"):
        ask.adapters_of(str(run / "round_07"), config)


def test_questions_of_the_help_can_be_answered_in_the_shipped_world():
    asked = re.findall(r'"(Wh.*\?)"', ask.__doc__)
    assert len(asked) == 2 and all(Oracle.of("target").hops(question) for question in asked)


def test_search_steps_and_answer_are_shown(run, said):
    out = said(run, "What?")
    assert [part in out for part in ("look", "search: France", "answer: A", run.name[:3])] == [True] * 4


def test_two_checkpoints_on_the_same_question(run, said):
    found = [json.loads(line) for line in said(run, "What?", "--compare", "base", "--json").splitlines()]
    assert [(f["checkpoint"], f["answer"]) for f in found] == [(str(run), "A"), ("base", "A")]
    assert found[0]["turns"][0]["queries"] == ["France"] and found[0]["turns"][0]["response"]


def test_quiet_prints_the_answer_alone(run, said):
    assert said(run, "What?", "--quiet") == "A\n"


def test_questions_are_read_line_by_line(run, said, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nOne?\n"))
    assert said(run, "--quiet") == "A\n"


def test_values_stand_behind_the_config_and_the_question_anywhere(run, said):
    out = said("base", "--config", run / "config.yaml", "corpus=c.jsonl", "What?", "top_k=1", "--dry-run", "--json")
    assert json.loads(out)["corpus"] == "c.jsonl"


def test_words_are_one_question_and_values():
    assert ask.split_words(["a=1", "Is 1 + 1 = 2?", "b=x"]) == ("Is 1 + 1 = 2?", ["a=1", "b=x"])
    with pytest.raises(InputError, match=r"'capital'.*second question"):
        ask.split_words(["the", "capital"])


def test_hostile_text_is_shown_as_it_is():
    turn = Turn("<think>[red]a[/red] \x1b[2J\x07b</think>", ("[bold]q",), "[/]\x9b31m passage")
    console = Console(file=io.StringIO(), width=80)
    console.print(*ask.lines(turn))
    shown = console.file.getvalue()
    assert (
        "[red]a[/red] \ufffd[2J\ufffdb" in shown
        and "[bold]q" in shown
        and "\x1b[2J" not in shown
        and "\x9b" not in shown
    )


def test_real_weights_answer(run, config):
    """The untrained random base: whatever it writes, an episode comes back."""
    agent = ask.Agent(config, ask.adapters_of(str(run), config))
    assert ask.ask(agent, "Which?").finish_reason and ask.ask(agent, "Which?").ids == ask.ask(agent, "Which?").ids


def test_last_round_is_that_of_the_checkpoints_own_run(run, config):
    """Another run's config, such as that of the first of two checkpoints, may have fewer rounds."""
    assert ask.adapters_of(str(run), replace(config, rounds=1))["policy"] == run / "round_02" / "policy" / "adapter"
