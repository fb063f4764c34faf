"""What the layout promises a reader: a small root that is the algorithm, systems in files of their own, no knowledge
upward."""

import ast
import re
from pathlib import Path

import pytest
from helpers import ROOT

from asl_min.config import Config

PACKAGE = ROOT / "asl_min"
ALGORITHM = sorted(PACKAGE.glob("*.py"))
RECIPES = {file.stem for file in (PACKAGE / "recipes").glob("*.py")} - {"__init__"}


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def imports(file: Path) -> set[str]:
    """The modules of the package that a file imports, at its top or in a function."""
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    whole = {node.module for node in found} | {f"{node.module}.{name.name}" for node in found for name in node.names}
    return {name for name in whole if name and name.startswith("asl_min")}


def test_root_is_small():
    assert len(ALGORITHM) <= 18 and sum(map(lines, ALGORITHM)) <= 2950 and max(map(lines, ALGORITHM)) <= 300


def test_readme_is_short():
    assert lines(ROOT / "README.md") <= 130


def test_no_file_but_recipes_and_old_names_asks_for_a_recipe_by_name():
    """As a string, except for the default."""
    names = RECIPES - {Config().recipe}
    for file in PACKAGE.rglob("*.py"):
        if "recipes" in file.parts or file.name == "old_names.py":
            continue
        strings = [n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)]
        assert not names & {value for value in strings if isinstance(value, str)}, file


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_is_one_short_file_that_names_its_source(name):
    text = (PACKAGE / "recipes" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 110 and ast.get_docstring(ast.parse(text))
    assert sum(isinstance(node, ast.ClassDef) for node in ast.parse(text).body) == 1


@pytest.mark.parametrize(
    ("file", "unknown"),
    [
        ("phase", ["asl_min.tools", "asl_min.world"]),
        ("rollout", ["asl_min.tools", "asl_min.world", "asl_min.recipes"]),
        ("grpo", ["asl_min.tools", "asl_min.world", "asl_min.recipes", "asl_min.sampling", "asl_min.search"]),
        ("evaluate", ["asl_min.train_policy", "asl_min.train_prompt_generator", "asl_min.train_reward_model"]),
        ("train_policy", ["asl_min.world", "asl_min.tools"]),
    ],
)
def test_algorithm_does_not_know_what_is_built_on_it(file, unknown):
    known = imports(PACKAGE / f"{file}.py")
    assert not [name for name in known for prefix in unknown if name.startswith(prefix)]


def test_evaluation_reaches_no_training_script():
    """Not through another module either."""
    seen, open_files = set(), [PACKAGE / "evaluate.py"]
    while open_files:
        file = open_files.pop()
        for name in imports(file) - seen:
            seen.add(name)
            path = ROOT / f"{name.replace('.', '/')}.py"
            open_files += [path] if path.is_file() else []
    assert "asl_min.phase" in seen and not [name for name in seen if name.startswith("asl_min.train_")]


def test_lines_are_at_most_120_wide():
    files = [f for f in ROOT.rglob("*.py") if not {".venv", "runs", "build"} & set(f.relative_to(ROOT).parts)]
    assert not [file for file in files if any(len(line) > 120 for line in file.read_text().splitlines())]


def test_no_page_names_a_file_that_is_gone():
    """Paths in backticks that look like the repository's own."""
    for page in [ROOT / "README.md", ROOT / "RESULTS.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for path in re.findall(r"`((?:asl_min|reproduce|tests|docs|configs)/[\w./-]+)`", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
