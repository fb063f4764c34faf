"""Every command in the README and the docs: the script is there and takes these arguments, and the short ones run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from asl_min.run import command

sys.path.insert(0, str(ROOT / "docs"))
import build

PAGES = [ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
TINY = ["round_rollouts=0", "attempts=2", "verify_samples=1", "eval_per_hop=2", "eval_judgments=4", "eval_tasks=4"]
TINY += ["pg_prompts=4", "pg_samples=2", "pg_max_steps=1", "grm_prompts=4", "grm_samples=2", "grm_max_steps=1"]
TINY += ["policy_prompts=2", "policy_samples=2", "policy_max_steps=1"]
SCRIPTS = {*command.SCRIPTS.values(), *build.REPRODUCE}


def commands(page: Path) -> list[str]:
    """The lines of its code blocks, and its inline commands that a reader could paste, without comments."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    inline = re.findall(r"`((?:asl-|make |python -m )[^`…]+)`", text)
    parts = [part for line in blocks.splitlines() + inline for part in line.split(" #")[0].split("&&")]
    return [
        part.strip()
        for part in parts
        if re.match(r"(\.venv/bin/)?(asl-|make |python |accelerate |torchrun )", part.strip())
    ]


ALL = sorted({(page.name, line) for page in PAGES for line in commands(page)})


def words_of(line: str) -> tuple[str | None, list[str]]:
    """The module that a command starts, and its arguments."""
    words = shlex.split(line)
    program = Path(words[0]).name
    if program in command.SCRIPTS:
        return command.SCRIPTS[program], words[1:]
    if "-m" not in words:
        return None, words
    after = [word for word in words[words.index("-m") + 1 :] if word != "--"]
    return after[0], after[1:]


def test_there_are_commands():
    assert len(ALL) > 30


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page}: {line}" for page, line in ALL])
def test_command_exists_and_takes_its_arguments(page, line):
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
        return
    module, arguments = words_of(line)
    for word in arguments:
        if word.startswith(("configs/", "reproduce/", "docs/")):
            assert (ROOT / word).exists() or "NAME" in word or "strict_gate" in word
    if module in SCRIPTS and arguments:
        given = [word for word in arguments if word != "…"]
        build.parser_of(module).parse_intermixed_args(given)
    elif module and module not in SCRIPTS:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file() or module in ("pytest", "pip")
    elif not module:
        assert words[1] == "-c" or (ROOT / words[1]).exists() or words[0] == "accelerate"


DRY = [line for _, line in ALL if "--dry-run" in line and "configs/tiny.yaml" in line]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory that holds nothing but configs/."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", DRY)
def test_dry_runs_of_the_miniature_run(line, folder, script):
    module, arguments = words_of(line)
    assert script(module, *arguments) == 0


def test_phases_by_hand_lead_to_a_report(folder, script):
    """The block of docs/runs.md as it stands, with fewer and smaller steps. One phase really runs under `accelerate
    launch`; what is launched for the others runs in this process."""
    block = re.search(r"## Phase by phase\n\n```\n(.*?)```", (ROOT / "docs" / "runs.md").read_text(), re.DOTALL)[1]
    first, *others = block.splitlines()
    launched = next(line for line in others if line.startswith("accelerate") and "train_" in line)
    for line in (f"{first} {' '.join(TINY)}", *others):
        module, arguments = words_of(line)
        if line == launched:
            launch(line)
        else:
            assert script(module, *arguments) == 0, line
    assert (folder / "runs" / "mine" / "report" / "report.html").is_file()


def launch(line: str) -> None:
    """As in a shell; accelerate has nothing to warn of."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *shlex.split(line)[2:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "defaults used instead" not in done.stderr, done.stderr[-2000:]
