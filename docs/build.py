"""Writes docs/config.md from the dataclass, docs/architecture.md from the imports, docs/completion.bash from the
scripts and the list of systems in docs/league.md from the recipes. A test compares them with what is committed.

python docs/build.py
"""

import argparse
import ast
import runpy
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import networkx
import yaml
from fidelity import league_page
from pydantic import TypeAdapter

from asl_min.config import MAY_CHANGE, Config
from asl_min.run import command

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "asl_min"
CONFIG_HEAD = """# Settings

Made by `python docs/build.py` from `asl_min/config.py`. A YAML file holds only what differs from these defaults; on the
command line, `key=value`. When a run goes on, only {may_change} may differ.
"""
ARCHITECTURE_HEAD = """# Which file uses which

Made by `python docs/build.py` from the imports at the top of each file: the files at the root of `asl_min/`, which are
the algorithm, and its folders.
"""
SCRIPTS = ("claims", "digest", "figures", "league", "preregistration", "ratings", "real", "run", "runner", "verify")
REPRODUCE = [f"reproduce.{name}" for name in SCRIPTS]
COMPLETION = """# Completes `python -m asl_min...` and `python -m reproduce...`, also behind accelerate launch and
# torchrun: scripts, their options, config keys, else files.
#   source docs/completion.bash
# Made by `python docs/build.py` from the scripts.

_asl_min() {{
  local words="" module="" i
  for ((i = 1; i < COMP_CWORD - 1; i++)); do
    [[ ${{COMP_WORDS[i]}} == -m ]] && module=${{COMP_WORDS[i + 1]}}
  done
  case ${{COMP_WORDS[0]##*/}} in
{programs}
  esac
  case $module in
{cases}
  esac
  [[ ${{COMP_WORDS[COMP_CWORD - 1]}} == -m ]] && words="{modules}"
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
  [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
}}
_asl_min_keys="{keys}"
complete -o default -F _asl_min python python3 accelerate torchrun {names}
"""


def config_reference() -> str:
    """A table for each commented group of the dataclass."""
    text = (PACKAGE / "config.py").read_text()
    body = next(node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    documented = [(a.target.id, b.value.value, a.lineno) for a, b in pairwise(body) if isinstance(a, ast.AnnAssign)]
    schemas = TypeAdapter(Config).json_schema()["properties"]
    comments = {
        number: line.strip("# \n")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.startswith("    # ")
    }
    may_change = ", ".join(f"`{key}`" for key in sorted(MAY_CHANGE))
    parts, last = [CONFIG_HEAD.format(may_change=may_change), table_head()], 0
    for name, meaning, line in documented:
        parts += [f"\n## {comments[n]}\n\n{table_head()}" for n in comments if last < n < line]
        default = yaml.safe_dump(getattr(Config(), name)).split("\n")[0]
        cells = [f"`{name}`", values_of(schemas[name]), f"`{default}`", " ".join(meaning.split())]
        parts.append(f"| {' | '.join(cells)} |")
        last = line
    return "\n".join(parts) + "\n"


def values_of(schema: dict) -> str:
    """What a key may be, from its JSON schema: choices, or a type with its range."""
    if "anyOf" in schema:
        return " or ".join(map(values_of, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if schema["type"] == "array":
        return f"list of {values_of(schema['items'])}"
    ranges = {"exclusiveMinimum": "above", "minimum": "at least", "maximum": "at most"}
    return " ".join([schema["type"], *(f"{word} {schema[key]:g}" for key, word in ranges.items() if key in schema)])


def table_head() -> str:
    return "| key | values | default | meaning |\n|---|---|---|---|"


def imports() -> networkx.DiGraph:
    """The modules at the package's root, and its folders as one node each, with their imports of one another."""
    graph = networkx.DiGraph()
    for file in sorted(PACKAGE.rglob("*.py")):
        name = node_of(file.relative_to(PACKAGE).with_suffix("").parts)
        if name:
            graph.add_node(name)
        for line in ast.parse(file.read_text()).body if name else ():
            if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("asl_min"):
                inside = line.module.split(".")[1:2] or [alias.name for alias in line.names]
                graph.add_edges_from((name, node_of((other,))) for other in inside if node_of((other,)) != name)
    return graph


def node_of(parts: tuple[str, ...]) -> str:
    """A root module's name, or a folder's with a slash; "" for `__init__`."""
    if len(parts) > 1 or (PACKAGE / parts[0]).is_dir():
        return f"{parts[0]}/"
    return "" if parts[0] == "__init__" else parts[0]


def architecture() -> str:
    """A list of edges by node, since folders may use one another."""
    graph = imports()
    lines = [
        f"| `{name}` | {', '.join(f'`{other}`' for other in sorted(graph[name])) or '-'} |" for name in sorted(graph)
    ]
    scripts = sorted(name for name in graph if graph.in_degree(name) == 0)
    head = "| file or folder | imports |\n|---|---|"
    return (
        "\n".join([ARCHITECTURE_HEAD, head, *lines])
        + f"\n\nImported by nobody: {', '.join(f'`{s}`' for s in scripts)}.\n"
    )


def parser_of(module: str) -> argparse.ArgumentParser:
    """The arguments that a script declares, before it imports anything else."""
    with patch.object(command, "start", side_effect=SystemExit) as start, suppress(SystemExit):
        runpy.run_path(str(PACKAGE.parent / f"{module.replace('.', '/')}.py"), run_name="__main__")
    return command.parser_of(*start.call_args.args)


def words_of(parser: argparse.ArgumentParser) -> str:
    options = [word for action in parser._actions for word in action.option_strings if word.startswith("--")]
    takes_keys = any("key=value" in f"{action.metavar} {action.help}" for action in parser._actions)
    return " ".join([*options, *(["$_asl_min_keys"] if takes_keys else [])])


def completion() -> str:
    """What each script takes."""
    cases = {module: words_of(parser_of(module)) for module in sorted([*command.SCRIPTS.values(), *REPRODUCE])}
    lines = "\n".join(f'    {module}) words="{words}" ;;' for module, words in cases.items())
    programs = "\n".join(f"    {name}) module={module} ;;" for name, module in command.SCRIPTS.items())
    keys = " ".join(f"{field.name}=" for field in fields(Config))
    return COMPLETION.format(
        cases=lines, modules=" ".join(cases), keys=keys, programs=programs, names=" ".join(command.SCRIPTS)
    )


PAGES = {
    "config.md": config_reference,
    "architecture.md": architecture,
    "completion.bash": completion,
    "league.md": league_page,
}


def main() -> None:
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())


if __name__ == "__main__":
    main()
