"""The paper's claims C1-C16 from the runs' files: an effect with its interval, a threshold and a verdict each, and the
tables.

    python -m reproduce.claims [--results reproduce/results]

Reads results/runs/*.json and writes results/claims.json, results/RESULTS.md and, from this repository's own results,
the tables of README.md and RESULTS.md. An effect is one number a seed, paired by seed where two arms are compared; its
interval is the 95% t-interval of the mean over seeds. A claim holds when every part's interval lies above its
threshold, does not hold when the interval of one lies below, and is undecided otherwise; without the runs that it needs
it was not run. The terminal shows each beside the repository's record.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    start("reproduce.claims", __doc__, results)

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asl_min.run import terminal
from reproduce import measures as m
from reproduce.tables import COMMAND, SHARE, beside_record, readme_blocks, refresh, results_blocks, results_text

README, RESULTS = Path(__file__).parents[1] / "README.md", Path(__file__).parents[1] / "RESULTS.md"


@dataclass(frozen=True)
class Part:
    """One number for each seed that should lie above the threshold. `effects` finds them in the runs: none where the
    arms were not run."""

    metric: str
    effects: Callable[[m.Runs], list[float]]
    threshold: float = 0.0


@dataclass(frozen=True)
class Claim:
    """Holds when every part does. What is shown beside them decides nothing."""

    id: str
    claim: str
    arms: str
    parts: list[Part]
    note: str = ""
    shown: tuple[Part, ...] = ()


def versus(arm: str, other: str) -> Part:
    return Part(f"{arm} - {other}: final held-out accuracy, points", m.between(arm, other, m.final))


def per_doubling(runs: m.Runs) -> list[float]:
    """Slope of the final accuracy over log2 of the tasks a round, for every seed that all sizes have."""
    arms = [runs.get(arm, {}) for arm in m.TASK_SIZES]
    seeds = sorted(set.intersection(*map(set, arms)))
    return [
        float(np.polyfit([np.log2(m.tasks_used(arm[s])) for arm in arms], [m.final(arm[s]) for arm in arms], 1)[0])
        for s in seeds
    ]


def efficiency(key: str) -> Callable[[m.Runs], list[float]]:
    """Mean accuracy over the budget that all have spent: asl less the better of the two zero-label baselines of C9."""
    arms = ("asl", "absolute_zero", "r_zero")

    def effects(runs: m.Runs) -> list[float]:
        found = []
        for seed in sorted(set.intersection(*(set(runs.get(arm, {})) for arm in arms))):
            budget = min(m.spent(runs[arm][seed], key)[-1] for arm in arms)
            asl, *others = (m.mean_over(runs[arm][seed], key, budget) for arm in arms)
            found.append(asl - max(others))
        return found

    return effects


def efficient(key: str) -> Part:
    return Part(f"asl - better of the others: mean accuracy over equal {key}, points", efficiency(key))


TRACED = Part(
    "lowest share of logged tool responses that the one tool gives, and of rows traced",
    m.of("asl", lambda s: m.audited(s, "tool_same", "lineage")),
    SHARE,
)
REWARDS = Part(
    "lowest share of logged rewards that the formulas give",
    m.of("asl", lambda s: m.audited(s, "rewards_explained")),
    SHARE,
)
NO_GOLD = Part("1 if no phase was given a gold label, else 0", m.of("asl", m.no_gold), SHARE)
HARDER = Part(
    "fall of the base policy's accuracy on the round's tasks, points a round",
    m.of("asl", lambda s: -m.slope(m.curve(s, "frozen", "accuracy"))),
)
SOLVABLE = Part("solvable share of the last round's tasks, %", m.of("asl", lambda s: m.curve(s, *m.REWARDED)[-1]), 80.0)
GAIN = Part("gain in held-out accuracy, points", m.of("asl", lambda s: m.gain(s, "accuracy", "mean")))
JUDGE = [
    Part("gain in the GRM's balanced accuracy, points", m.of("asl", lambda s: m.gain(s, "grm", "balanced_accuracy"))),
    Part("gain in its F1, points", m.of("asl", lambda s: m.gain(s, "grm", "f1"))),
    Part("gain in its consistency, points", m.of("asl", lambda s: m.gain(s, "grm", "consistency"))),
]
STEADY = Part("slope of held-out accuracy, points a round", m.of("asl", lambda s: m.slope(m.accuracy(s))))
# The PG's reward is compared from round 2 on, whose prompts are the first that are made of tasks: those on topics have
# other solve rates. Whether a task can be solved as posed depends on them less: of the base's tasks 71% on topics, 65%
# on variants have a right answer of their own (its card).
HACKED = [
    Part(
        "rise of the PG's reward after round 2, 0.01 nats",
        m.of("frozen_grm", lambda s: m.rise(s, "pg_reward", since=2)),
    ),
    Part(
        "fall of the share of rewarded tasks that can be solved as posed, round 1 less the last two, points",
        m.of("frozen_grm", lambda s: m.curve(s, *m.SOUND)[1] - m.late(s, *m.SOUND)),
    ),
    Part("judge reward less true accuracy in the last round, points", m.of("frozen_grm", m.overpaid)),
    Part(
        "fall of held-out accuracy after round 1 (flat: gains less than 5), points",
        m.of("frozen_grm", lambda s: -m.rise(s, "accuracy", "mean", since=1)),
        -5.0,
    ),
]
PREVENTED = [
    Part(
        "trained - frozen: share of rewarded tasks that can be solved as posed, last two rounds, points",
        m.between("asl", "frozen_grm", lambda s: m.late(s, *m.SOUND)),
    ),
    Part(
        "frozen - trained: judge reward less true accuracy in the last round, points",
        m.between("frozen_grm", "asl", m.overpaid),
    ),
]
OWN_VERDICTS = (
    "asked where the GRM learns from its own verdicts, as it does in the released script; "
    "with labels by the PG's own answers, as in asl, it is shown"
)

CLAIMS = [
    Claim(
        "C1",
        "closed loop; the three roles share tool and backbone",
        "asl",
        [TRACED],
        "an audit of the run's files (`asl_min/tools/audit.py`)",
    ),
    Claim("C2", "the PG sets progressively harder tasks", "asl", [HARDER, SOLVABLE]),
    Claim("C3", "the policy solves better", "asl", [GAIN]),
    Claim("C4", "the GRM becomes more accurate and consistent", "asl", JUDGE),
    Claim("C5", "GRM reward beats rule-based reward", "asl rule_reward", [versus("asl", "rule_reward")]),
    Claim("C6", "co-evolving the GRM helps", "asl frozen_grm", [versus("asl", "frozen_grm")]),
    Claim(
        "C7",
        "more task data helps, even synthetic",
        " ".join(m.TASK_SIZES),
        [Part("final held-out accuracy, points per doubling of the tasks", per_doubling)],
    ),
    Claim("C8", "steady round-over-round gains", "asl", [STEADY]),
    Claim(
        "C9",
        "beats the zero-label baselines Absolute Zero and R-Zero",
        "asl absolute_zero r_zero",
        [versus("asl", other) for other in ("absolute_zero", "r_zero")],
        "the paper's third one, Search-R1, learns from gold labels, here of the very world that it is evaluated in: "
        "how many of them catch asl is shown, and stands in a table below",
        tuple(versus("asl", f"search_r1_{labels}") for labels in m.GOLD_SIZES),
    ),
    Claim(
        "C10",
        "improves with zero labelled data",
        "asl",
        [GAIN, NO_GOLD],
        "training that opens gold ends with an error (`asl_min/run/gold.py` and its tests)",
    ),
    Claim(
        "C11",
        "better sample efficiency",
        "asl absolute_zero r_zero",
        [efficient("episodes")],
        "the budget is episodes (tasks written and attempts at them); tokens, of which the judging takes most, are "
        "shown. Robustness: the spread over seeds stands in the table of arms",
        (efficient("tokens"),),
    ),
    Claim("C12", "a frozen GRM is hacked", "frozen_grm", HACKED),
    Claim("C13", "training the GRM on prevents it", "asl frozen_grm", PREVENTED),
    Claim(
        "C14",
        "verification becomes the bottleneck",
        "self_oracle_late grm_labels_self",
        [versus("self_oracle_late", "grm_labels_self")],
        OWN_VERDICTS,
        (versus("oracle_grm_late", "asl"),),
    ),
    Claim(
        "C15",
        "a little late real verification data raises the ceiling",
        "self_inject_late grm_labels_self",
        [versus("self_inject_late", "grm_labels_self")],
        OWN_VERDICTS,
        (versus("inject_late", "asl"), versus("inject_early", "asl")),
    ),
    Claim(
        "C16",
        "no human labels and no predefined rules",
        "asl",
        [REWARDS, NO_GOLD],
        "an audit of the run's files. Named openly: the format bonus of every role, the format check of tasks, and "
        "with `grm_labels: reference` the GRM's labels, which are string matches with the PG's own answers (there are "
        "none in the arm grm_labels_self)",
    ),
]


def judge(part: Part, runs: m.Runs) -> dict:
    """A part's effect, interval, number of seeds and verdict. Seeds in which it was not measured are left out."""
    effects = [value for value in part.effects(runs) if np.isfinite(value)]
    row = {
        "metric": part.metric,
        "effect": None,
        "ci_low": None,
        "ci_high": None,
        "n_seeds": len(effects),
        "threshold": part.threshold,
        "verdict": "not run",
    }
    if not effects:
        return row
    mean, low, high = m.interval(effects)
    verdict = "holds" if low > part.threshold else "does not hold" if high < part.threshold else "undecided"
    bounds = {"ci_low": round(low, 4), "ci_high": round(high, 4)} if len(effects) > 1 else {}
    return row | {"effect": round(mean, 4), "verdict": verdict} | bounds


def conclude(claim: Claim, runs: m.Runs) -> dict:
    """One row of claims.json: the first part's figures, the other parts under `also`, the verdict of all, and what is
    only shown."""
    first, *also = (judge(part, runs) for part in claim.parts)
    shown = [judge(part, runs) for part in claim.shown]
    verdicts = [row["verdict"] for row in (first, *also)]
    verdict = next((v for v in ("not run", "does not hold", "undecided") if v in verdicts), "holds")
    row = (
        {"id": claim.id, "claim": claim.claim, "arms": claim.arms.split()}
        | first
        | {"verdict": verdict, "command": COMMAND}
    )
    return row | {"first_verdict": first["verdict"], "also": also, "shown": shown, "note": claim.note}


def main(args: Namespace) -> None:
    folder = args.results or m.RESULTS
    runs, files = m.load_runs(folder / "runs"), [folder / "claims.json", folder / "RESULTS.md"]
    if args.dry_run:
        terminal.tell(f"would write {files[0]} and {files[1]}", files=list(map(str, files)))
        return
    rows = [conclude(claim, runs) for claim in CLAIMS]
    record = json.loads((m.RESULTS / "claims.json").read_text())
    files[0].write_text(json.dumps(rows, indent=1) + "\n")
    files[1].write_text(results_text(runs, rows, folder))
    if folder.resolve() == m.RESULTS.resolve() and "asl" in runs:
        README.write_text(refresh(README, readme_blocks(runs)))
        RESULTS.write_text(refresh(RESULTS, results_blocks(runs, rows)))
    terminal.tell(beside_record(rows, record), claims=rows)
