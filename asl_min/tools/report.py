"""The report of a run, all from its files: summary.json, and in report/ the table of rounds and the figures as Markdown
and as one HTML page. Nothing is measured anew. Where the phase diagram has the run's arm and base, both are
shown in it.

    python -m asl_min.tools.report runs/NAME
    python -m asl_min.tools.report runs/NAME --claims reproduce/results/claims.json
    python -m asl_min.tools.report runs/NAME --beside runs/OTHER
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    run = argument("run", type=Path, help="run folder")
    claims = argument("--claims", type=Path, help="claims.json of `make reproduce`, shown as a table")
    beside = argument("--beside", type=Path, metavar="RUN", help="another run, shown beside this one")
    start("asl_min.tools.report", __doc__, run, claims, beside)

import json
from argparse import Namespace
from pathlib import Path

from asl_min.run import durable, run_dir, terminal
from asl_min.run.errors import InputError
from asl_min.run.shipped import DIAGRAM, shipped
from asl_min.tools.diagram_panels import diagram_panels
from asl_min.tools.figures import Panel, beside_panels, round_panels, side_by_side, step_panels
from asl_min.tools.html.page import write_html
from asl_min.tools.predict import read_diagram
from asl_min.tools.summary import summary_of, write_summary
from asl_min.tools.table import LEGEND, markdown, table


def write_report(run: Path, claims: Path | None = None, beside: Path | None = None) -> Path:
    """Write `summary.json` and `report/`: figures (PNG), REPORT.md, and report.html with all that and the episodes.
    Returns the page's path. `claims`: a JSON list, shown as a table; `beside`: another run, whose rounds are shown too.

    Raises `InputError` if round 0 is not evaluated or the claims cannot be read.
    """
    found = load_claims(claims) if claims else []
    summary, other = evaluated(run), {str(beside): evaluated(beside)} if beside else {}
    write_summary(run)
    (run / "report").mkdir(exist_ok=True)
    panels = {"rounds": round_panels([summary]), "steps": step_panels(run)}
    if shipped(DIAGRAM).is_file():
        panels["diagram"] = diagram_panels(summary, read_diagram(shipped(DIAGRAM)))
    if other:
        panels["beside"] = beside_panels({str(run): summary} | other)
    write_markdown(run / "report", summary, {name: group for name, group in panels.items() if group})
    return write_html(run, summary, panels, found, other)


def evaluated(run: Path) -> dict:
    """The summary of a run. Raises `InputError` if round 0 is not evaluated."""
    found = summary_of(run)
    if not found["rounds"]:
        raise InputError(missing_base(run))
    return found


def write_markdown(folder: Path, summary: dict, panels: dict[str, list[Panel]]) -> None:
    """REPORT.md, and a PNG of each group of panels."""
    for name, group in panels.items():
        side_by_side(group).savefig(folder / f"{name}.png", dpi=120)
    title = f"# {summary['arm']}, seed {summary['seed']}"
    text = "\n\n".join([title, LEGEND, markdown(table([summary])), *(f"![{name}]({name}.png)" for name in panels)])
    durable.write_text(folder / "REPORT.md", text + "\n")


def missing_base(run: Path) -> str:
    """Why there is nothing to report, and what to do."""
    rounds = range(1, run_dir.read_config(run).rounds + 1)
    later = [str(number) for number in rounds if run_dir.is_done(run, number, "evaluation")]
    command = f"python -m asl_min.evaluate --run {run} --round 0"
    if later:
        return (
            f"{run}: the evaluation of round 0, the base, is missing (there is that of {', '.join(later)}): {command}"
        )
    return f"{run}: no round is evaluated yet; begin with the base: {command}"


def load_claims(file: Path) -> list[dict]:
    """Rows of a claims.json. Raises `InputError` if it cannot be read as one."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a claims file: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{file}: expected a list of claims")
    return rows


def main(args: Namespace) -> None:
    if args.dry_run:
        rounds = run_dir.read_config(args.run).rounds
        text = f"{args.run}: would write summary.json and report/ from the finished rounds of {rounds}"
        terminal.tell(text, run=str(args.run), rounds=rounds, files=["summary.json", "report/"])
    else:
        page = str(write_report(args.run, args.claims, args.beside))
        terminal.tell(page, report=page)
