"""The table of docs/league.md that says of each system where its rule comes from: read from the docstring of its
recipe, which ends in the paragraphs "Source:", "Read:" and "Differs:", and holds its rule as an indented block."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "asl_min" / "recipes"
DESIGN = ROOT / "reproduce" / "preregistered_league.yaml"
PAGE = Path(__file__).parent / "league.md"


@dataclass(frozen=True)
class Fidelity:
    """What a recipe says of its source."""

    rule: str
    source: str
    read: str
    differs: str

    @property
    def commit(self) -> str:
        """Of the code that was read; "-" without any."""
        found = re.search(r"\b[0-9a-f]{7}\b", self.source)
        return found[0] if found else "-"


def fidelity(recipe: str) -> Fidelity:
    """Raises `ValueError` where the recipe's docstring lacks a part."""
    text = ast.get_docstring(ast.parse((RECIPES / f"{recipe}.py").read_text()))
    rule = [re.sub(",? {2,}", "; ", line.strip()) for line in text.splitlines() if line.startswith("    ")]
    rule = [re.sub(r"^(\w+); ", r"**\1** ", line) for line in rule]
    parts = [re.search(rf"^{name}: (.+?)(?=^\w+: |\Z)", text, re.MULTILINE | re.DOTALL) for name in NAMES]
    if not rule or None in parts:
        raise ValueError(f"{recipe}: its docstring needs a rule, indented, and the paragraphs {', '.join(NAMES)}")
    return Fidelity("<br>".join(rule), *(" ".join(part[1].split()) for part in parts))


NAMES = ("Source", "Read", "Differs")


def recipe_of(arm: str) -> str:
    """The recipe of an arm's file, its own or that of the file that it extends."""
    values = yaml.safe_load((ROOT / "configs" / "arms" / f"{arm}.yaml").read_text())
    return values.get("recipe") or recipe_of(Path(values["extends"]).stem)


def fidelity_table() -> str:
    lines = ["| system | rule | source | commit | read | what differs here |", "|---|---|---|---|---|---|"]
    for arm in yaml.safe_load(DESIGN.read_text())["arms"]:
        found = fidelity(recipe_of(arm))
        cells = [f"`{arm}`", found.rule, found.source, found.commit, found.read.rstrip("."), found.differs]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def left_out_list() -> str:
    left_out = yaml.safe_load((ROOT / "docs" / "left_out.yaml").read_text())
    return "\n".join(f"- {name}: {' '.join(why.split())}" for name, why in left_out.items())


def league_page() -> str:
    """The page with these two parts made anew; the rest stays."""
    text = PAGE.read_text()
    for name, block in {"systems": fidelity_table(), "left out": left_out_list()}.items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda m, b=block: m[1] + b + m[2], text, flags=re.S)
    return text
