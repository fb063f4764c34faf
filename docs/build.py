"""Writes docs/config.md from the dataclass, docs/architecture.md from the imports and docs/completion.bash from the scripts. A test compares them with
what is committed.

python docs/build.py
"""

import ast
import json
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import networkx
import yaml

from asl_min.config import CHOICES, Config

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "asl_min"
CONFIG_HEAD = """# Settings

Made by `python docs/build.py` from `asl_min/config.py`. A YAML file holds only what differs from these defaults; on the command line, `key=value`.
"""
ARCHITECTURE_HEAD = """# Which file uses which

Made by `python docs/build.py` from the imports at the top of each file. An arrow goes from a file to one that it imports; arrows that follow from
others are left out, and so is `tiny/`, which makes the shipped base and data.
"""
COMPLETION = """# Completes `python -m asl_min...`, also behind accelerate launch and torchrun: scripts, their options, config keys, else files.
#   source docs/completion.bash
# Made by `python docs/build.py` from the scripts.

_asl_min() {{
  local words="" module="" i
  for ((i = 1; i < COMP_CWORD - 1; i++)); do
    [[ ${{COMP_WORDS[i]}} == -m ]] && module=${{COMP_WORDS[i + 1]}}
  done
  case $module in
{cases}
  esac
  [[ ${{COMP_WORDS[COMP_CWORD - 1]}} == -m ]] && words="{modules}"
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
  [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
}}
_asl_min_keys="{keys}"
complete -o default -F _asl_min python python3 accelerate torchrun
"""


def config_reference() -> str:
    """A table for each commented group of the dataclass."""
    text = (PACKAGE / "config.py").read_text()
    body = next(node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    documented = [(a.target.id, ast.unparse(a.annotation), b.value.value, a.lineno) for a, b in pairwise(body) if isinstance(a, ast.AnnAssign)]
    comments = {number: line.strip("# \n") for number, line in enumerate(text.splitlines(), start=1) if line.startswith("    # ")}
    parts, last = [CONFIG_HEAD, table_head()], 0
    for name, kind, meaning, line in documented:
        parts += [f"\n## {comments[n]}\n\n{table_head()}" for n in comments if last < n < line]
        choices = f" One of {', '.join(f'`{json.dumps(c)}`' for c in CHOICES[name])}." if name in CHOICES else ""
        default = yaml.safe_dump(getattr(Config(), name)).split("\n")[0]
        cells = [f"`{name}`", kind.replace("|", "or"), f"`{default}`", " ".join(meaning.split()) + choices]
        parts.append(f"| {' | '.join(cells)} |")
        last = line
    return "\n".join(parts) + "\n"


def table_head() -> str:
    return "| key | type | default | meaning |\n|---|---|---|---|"


def imports() -> networkx.DiGraph:
    """Modules of the package and their imports of one another; `roles` is one of them."""
    files = [f for f in sorted(PACKAGE.glob("*.py")) if f.stem != "__init__"] + sorted((PACKAGE / "roles").glob("[!_]*.py"))
    graph = networkx.DiGraph()
    for file in files:
        name = "roles" if file.parent.name == "roles" else file.stem
        graph.add_node(name)
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asl_min"):
                inside = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                graph.add_edges_from((name, other) for other in inside if other != name)
    return graph


def architecture() -> str:
    """A mermaid drawing, the scripts (which nothing imports) at the top."""
    graph = imports()
    reduced = networkx.transitive_reduction(graph)
    scripts = sorted(name for name in graph if graph.in_degree(name) == 0)
    lines = [f"  {a} --> {b}" for a, b in sorted(reduced.edges)]
    drawing = "\n".join(["```mermaid", "flowchart TD", *lines, "```"])
    return f"{ARCHITECTURE_HEAD}\n{drawing}\n\nImported by nobody: {', '.join(f'`{s}`' for s in scripts)}.\n"


def completion() -> str:
    """What each script takes, read from its source: importing them all would take seconds."""
    options = re.compile(r'add_argument\("(--[a-z-]+)"')
    texts = {file.stem: file.read_text() for file in sorted(PACKAGE.glob("*.py"))}
    common, phases = options.findall(texts["terminal"]), options.findall(texts["phase"])
    cases = {}
    for name, text in texts.items():
        if '__name__ == "__main__"' in text:
            found = options.findall(text) + (phases + common if "phase_main" in text else common if "terminal.parse" in text else [])
            cases[f"asl_min.{name}"] = " ".join(found) + (" $_asl_min_keys" if "key=value" in text else "")
    lines = "\n".join(f'    {module}) words="{words}" ;;' for module, words in cases.items())
    return COMPLETION.format(cases=lines, modules=" ".join(cases), keys=" ".join(f"{field.name}=" for field in fields(Config)))


PAGES = {"config.md": config_reference, "architecture.md": architecture, "completion.bash": completion}


def main() -> None:
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())


if __name__ == "__main__":
    main()
