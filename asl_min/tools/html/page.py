"""The report as one HTML file that loads nothing else: figures, tables, claims, config and cost, and a browser of the
episodes.

The template is `page.jinja`. Model output reaches the page only as JSON in which `<`, `>` and `&` are escaped, and the
script shows it as text, never as HTML.
"""

import dataclasses
from pathlib import Path

import jinja2
from markupsafe import Markup

from asl_min.config import Config
from asl_min.model import ROLES
from asl_min.run import durable, run_dir
from asl_min.tools.figures import Panel, svg
from asl_min.tools.html.episodes import MAX_EPISODE_BYTES, episode_groups, sample
from asl_min.tools.table import ACCURACY, COUNTS, LEGEND, LONG_NAMES, table


def write_html(
    run: Path, summary: dict, panels: dict[str, list[Panel]], claims: list[dict], others: dict[str, dict]
) -> Path:
    """Write `report/report.html` and return its path. `panels`: the figures, in named groups; `claims`: rows with `id`,
    `claim`, `effect`, `ci_low`, `ci_high`, `n_bases`, `n_seeds`, `verdict` and perhaps `metric`; `others`: summaries of
    the runs beside this one, by name."""
    config, rounds = run_dir.read_config(run), len(summary["rounds"])
    groups = episode_groups(run, config, rounds)
    budget = MAX_EPISODE_BYTES // max(len(groups), 1)
    shown = [row for group in groups.values() for row in sample(group, budget)]
    text = template().render(
        run=str(run),
        summary=summary,
        tables={name: round_table(found) for name, found in ({str(run): summary} | others).items()},
        others=others,
        legend=LEGEND,
        figures=figures(panels),
        claims=[{key: rounded(value) for key, value in row.items()} for row in claims],
        cost=cost(run, rounds),
        settings=[(key, value, value != getattr(Config(), key)) for key, value in dataclasses.asdict(config).items()],
        episodes=shown,
        total=sum(map(len, groups.values())),
    )
    file = run / "report" / "report.html"
    durable.write_text(file, text)
    return file


def round_table(summary: dict) -> dict:
    """Groups of columns, header and rows of the table of rounds."""
    header, *rows = table([summary])
    return {"groups": column_groups(header), "header": [LONG_NAMES.get(name, name) for name in header], "rows": rows}


def template() -> jinja2.Template:
    """`page.jinja`, which includes the style sheet and the script."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        "page.jinja"
    )


def column_groups(header: list[str]) -> list[tuple[str, int]]:
    """What groups of columns in the table of rounds measure, and how many columns each has."""
    accuracy = sum(name in ACCURACY for name in header)
    others = len(header) - 1 - accuracy - len(COUNTS)
    groups = [("", 1), ("held-out accuracy, %", accuracy), ("judge, tasks and policy, %", others)]
    return [(name, columns) for name, columns in groups if columns] + [("training", len(COUNTS))]


def figures(panels: dict[str, list[Panel]]) -> list[dict]:
    """Title and SVG of each panel; `group`: what it is laid out with."""
    return [
        {"group": group, "title": panel.title, "svg": Markup(svg(panel, f"{group}{number}"))}
        for group, of_group in panels.items()
        for number, panel in enumerate(of_group)
    ]


def rounded(value: object) -> object:
    """A claim's value as it is shown."""
    return "–" if value is None else round(value, 1) if isinstance(value, float) else value


def cost(run: Path, rounds: int) -> list[dict]:
    """Steps, episodes, judge calls, sampled tokens and seconds of every phase; seconds of the evaluations."""
    phases = [(n, phase) for n in range(rounds) for phase in (*(ROLES if n else ()), "evaluation")]
    return [{"round": n, "phase": phase} | run_dir.facts(run, n, phase) for n, phase in phases]
