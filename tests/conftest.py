# ruff: noqa: E402 (libraries read the environment when they are imported)
"""Shared fixtures: a very small random base, a small world's files and a config for them. Everything runs on one CPU
thread, offline."""

import os

for name, value in {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "ACCELERATE_USE_CPU": "true",
}.items():
    os.environ.setdefault(name, value)

from asl_min.run.command import set_up_process

set_up_process()

import dataclasses
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers import ROOT, new_tokenizer, random_model
from hypothesis import settings

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, load_questions, write_jsonl
from asl_min.run import terminal
from asl_min.world.world import World, load_world

torch.set_num_threads(1)
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
TARGET = Path(__file__).parents[1] / "asl_min" / "world" / "data" / "target"


@pytest.fixture(scope="session")
def tokenizer():
    return new_tokenizer()


@pytest.fixture(scope="session")
def chat(tokenizer) -> Chat:
    return Chat(tokenizer, "tiny")


@pytest.fixture(scope="session")
def model(tokenizer):
    """The random base itself, never trained."""
    return random_model(len(tokenizer))


@pytest.fixture(scope="session")
def base(tmp_path_factory, tokenizer, model) -> Path:
    """A folder that `from_pretrained` loads: the random base with its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def world() -> World:
    return load_world("target")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """corpus.jsonl with 40 passages of the target half, questions.jsonl with 2 of each number of hops, judgments.jsonl
    with 8."""
    folder = tmp_path_factory.mktemp("data")
    corpus = load_corpus(TARGET / "corpus.jsonl")[:40]
    questions = load_questions(TARGET / "questions.jsonl")
    judgments = [json.loads(line) for line in (TARGET / "judgments.jsonl").read_text().splitlines()]
    write_jsonl(folder / "corpus.jsonl", [{"id": p.id, "contents": p.contents} for p in corpus])
    write_jsonl(
        folder / "questions.jsonl",
        [q for hops in (1, 2, 3, 4) for q in [q for q in questions if q["metadata"]["hops"] == hops][:2]],
    )
    write_jsonl(folder / "judgments.jsonl", judgments[:8])
    return folder


@pytest.fixture(scope="session")
def config(base, data) -> Config:
    """Every phase at its smallest: 2 steps of 2 prompts with 2 samples, episodes of 2 turns."""
    return Config(
        base_model=str(base),
        corpus=str(data / "corpus.jsonl"),
        questions=str(data / "questions.jsonl"),
        judgments=str(data / "judgments.jsonl"),
        rounds=2,
        max_turns=2,
        max_turn_tokens=12,
        max_episode_tokens=256,
        adapters="shared",
        lora_rank=4,
        learning_rate=1e-3,
        clip=0.2,
        kl_coef=0.0,
        minibatches=2,
        mixed_precision="no",
        micro_batch_tokens=1024,
        threads=1,
        pg_prompts=2,
        pg_samples=2,
        pg_max_steps=2,
        attempts=2,
        verify_threshold=0.8,
        verify_samples=2,
        grm_prompts=2,
        grm_samples=2,
        grm_max_steps=2,
        policy_prompts=2,
        policy_samples=2,
        policy_max_steps=2,
        eval_per_hop=2,
        eval_judgments=4,
        eval_tasks=4,
    )


@pytest.fixture
def changed(config):
    """The small config with some values replaced."""
    return lambda **values: dataclasses.replace(config, **values)


@pytest.fixture
def script(monkeypatch) -> Callable[..., int]:
    """Runs a script in this process, from its command line on; returns the exit code."""
    monkeypatch.setattr(terminal, "mode", "bar")

    def run(module: str, *words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / f"{module.replace('.', '/')}.py"), run_name="__main__")
        return ended.value.code

    return run


@pytest.fixture
def units(monkeypatch) -> Callable[[bool], None]:
    """Say whether the processor of this test has units for bfloat16."""

    def say(has: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has}, raising=False)

    return say


@pytest.fixture
def other_precision():
    """Accelerate keeps the precision of a process; here it changes, after a call of what this gives too."""

    def forget() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)

    forget()
    yield forget
    forget()
