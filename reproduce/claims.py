"""The paper's claims from the runs that were preregistered: effects over bases, verdicts, audits, and the tables.

    python -m reproduce.claims [--results reproduce/results]

Reads preregistered.yaml, results/runs/*.json and results/bases/*.json; writes results/claims.json, audits.json,
phase_diagram.json and RESULTS.md and, from this repository's own results, the tables of README.md and RESULTS.md. The
terminal shows each verdict beside the repository's record.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    start("reproduce.claims", __doc__, results)

import json
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from asl_min.run import terminal
from asl_min.run.durable import write_text
from reproduce.audits import audit
from reproduce.designs import Claim
from reproduce.pages import readme_blocks, refresh, results_blocks, results_text
from reproduce.phase_diagram import base_values, diagram_rows
from reproduce.population import Population, load
from reproduce.records import RESULTS
from reproduce.tables import beside_record
from reproduce.verdicts import Conclusion, Finding, Moderators, conclude

SECONDS = "mean_over_seconds"
README, PAGE = Path(__file__).parents[1] / "README.md", Path(__file__).parents[1] / "RESULTS.md"


def moderators_of(population: Population) -> Moderators:
    return {name: base_values(population.bases, path) for name, path in population.design.moderators.items()}


def claim_rows(population: Population) -> list[dict]:
    """Rows of claims.json: the primary mode's claims, then those of the other modes, each a family of its own; then,
    exploratory, the primary mode's claims on seconds without that part, since how long a run takes depends on what else
    its machine does.

    `provisional`: some run of the family is missing, whose p could change each verdict of it."""
    primary, secondary = (population.design.asked(primary=first) for first in (True, False))
    rows = family_rows(population, "primary", primary) + family_rows(population, "secondary", secondary)
    timed = [claim.id for claim in primary if any(part.measure == SECONDS for part in claim.parts)]
    without = [replace(claim, parts=tuple(p for p in claim.parts if p.measure != SECONDS)) for claim in primary]
    explored = [row for row in family_rows(population, "exploratory", without) if row["id"] in timed]
    return rows + [row | {"id": f"{row['id']} without seconds"} for row in explored]


def family_rows(population: Population, family: str, claims: list[Claim]) -> list[dict]:
    rows, missing = [], Counter(arm for _, arm, _ in population.selection.missing)
    for conclusion in conclude(claims, population.runs, moderators_of(population)):
        row = row_of(conclusion) | {"family": family, "budget": str(population.spent())}
        rows.append(row | {"missing_runs": sum(missing[arm] for arm in row["arms"])})
    late = any(row["missing_runs"] for row in rows)
    for row in rows:
        for verdict in (row, *row["parts"], *row["shown"]):
            verdict["provisional"] = late
    return rows


def row_of(conclusion: Conclusion) -> dict:
    """Effect and interval are those of the decisive part; `holm_p` and verdict of all parts together."""
    claim = conclusion.claim
    arms = {arm: None for part in claim.parts for arm in (*part.arms, *part.less)}  # a set that keeps the order
    row = {"id": claim.id, "claim": claim.claim, "verdict": conclusion.verdict}
    row |= {key: value for key, value in finding_row(conclusion.decisive).items() if key != "verdict"}
    ran = conclusion.verdict != "not run"
    return row | {
        "holm_p": number(conclusion.holm_p) if ran else None,
        "arms": list(arms),
        "parts": [finding_row(finding) for finding in conclusion.findings],
        "shown": [finding_row(finding) for finding in conclusion.shown],
        "note": claim.note,
    }


def finding_row(finding: Finding) -> dict:
    """A part of a claim; null bounds with one base."""
    part, found = finding.part, finding.estimate
    less = f" less {' or '.join(part.less)}" if part.less else ""
    return {
        "metric": f"{part.measure}: {', '.join(part.arms)}{less}",
        "effect": number(found.mean) if found else None,
        "ci_low": number(found.low) if found else None,
        "ci_high": number(found.high) if found else None,
        "p": number(found.p) if found else None,
        "n_bases": found.n if found else 0,
        "unmeasured": list(finding.unmeasured),
        "n_seeds": finding.n_seeds,
        "threshold": part.above,
        "verdict": finding.verdict,
        "depends_on": depends_on(finding),
    }


def depends_on(finding: Finding) -> dict | None:
    """The moderator, its value in percent from which (or up to which) the effect lies above the threshold, and p."""
    found = finding.dependence
    side = "from" if found and found.rising else "up_to"
    return {"moderator": found.moderator, side: number(found.at), "p": number(found.p)} if found else None


def number(value: float) -> float | None:
    """To five digits; None where it is not finite."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def main(args: Namespace) -> None:
    folder = args.results or RESULTS
    population = load(folder)
    written = [folder / name for name in ("claims.json", "audits.json", "phase_diagram.json", "RESULTS.md")]
    if args.dry_run:
        terminal.tell("\n".join(f"would write {file}" for file in written), files=list(map(str, written)))
        return
    rows, audits = claim_rows(population), audit(population)
    for file, found in zip(written, (rows, audits, diagram_rows(population)), strict=False):
        write_text(file, "[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")
    write_text(written[-1], results_text(population, rows, audits))
    if folder.resolve() == RESULTS.resolve():
        write_text(README, refresh(README, readme_blocks(population)))
        write_text(PAGE, refresh(PAGE, results_blocks(population, rows, audits)))
    recorded = RESULTS / "claims.json"
    terminal.tell(beside_record(rows, json.loads(recorded.read_text()) if recorded.is_file() else []), claims=rows)
