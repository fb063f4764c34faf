"""Made-up summaries and bases with known answers, for the tests of reproduce/."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import yaml

from asl_min.config import Config
from reproduce import designs
from reproduce.designs import Preregistration
from reproduce.records import Runs, by_arm, dump, name_of, run_name

ROLES = ("prompt_generator", "reward_model", "policy")
SPENT = {"rollouts": 1000, "tokens": 5000, "seconds": 50.0, "optimizer_steps": 10, "gold_labels": 0, "judge_calls": 600}


def entry(number: int, accuracy: float, **values) -> dict:
    """A round of a summary; shares are 0 to 1."""
    strata = dict.fromkeys(("mean", "seen", "held_out_phrasing", "held_out_path", "hop1", "hop2"), accuracy)
    row = {"round": number, "accuracy": strata | {"interval": [0, 1]}, "accuracy_greedy": {"mean": accuracy}}
    row |= {"grm": {"balanced_accuracy": 0.6, "consistency": 0.7, "by_kind": {"right": 0.7, "other fact": 0.6}}}
    row |= {"n_tasks": 100 if number else 0, "phase": None, "frozen": None, "trace": None}
    row |= {key: value if number else 0 for key, value in SPENT.items()}
    if number:
        shares = dict.fromkeys(ROLES, 1.0)
        row["phase"] = {"judge_reward": 0.6, "true_accuracy": 0.6, "kept": {"answerable": 0.95, "right": 0.9}}
        row["frozen"] = {"accuracy": 0.7 - 0.1 * number}
        row["trace"] = {"tool_use": shares, "tool_same": shares, "rewards_explained": shares, "lineage": {"tasks": 1.0}}
    return row | values


def summary(base: str, arm: str, seed: int, *accuracies: float, config: dict | None = None, **values) -> dict:
    """`values`: of every round but that of the base."""
    settings = asdict(Config(arm=arm, seed=seed, base_model=f"build/bases/{base}", rounds=max(len(accuracies) - 1, 1)))
    rounds = [entry(number, accuracy, **(values if number else {})) for number, accuracy in enumerate(accuracies)]
    head = {"arm": arm, "recipe": "asl", "seed": seed, "started": "2026-01-02T00:00:00+00:00"}
    return head | {"config": settings | (config or {}), "rounds": rounds}


def gains(arm: str, by_base: Iterable[float], seed: int = 0, start: float = 0.3, **values) -> list[dict]:
    """One run on each of the bases b01, b02, … that gains these points in one round."""
    found = enumerate(by_base, 1)
    return [summary(f"b{n:02}", arm, seed, start, start + points / 100, **values) for n, points in found]


def runs_of(*groups: Iterable[dict]) -> Runs:
    return by_arm(run for group in groups for run in group)


def measures_of(judge: float, writer: float = 0.7, policy: float = 0.4) -> dict:
    """Of a base before the loop."""
    found = {"accuracy": {"mean": policy}, "grm": {"balanced_accuracy": judge, "consistency": 0.8}}
    found |= {
        "pg": {"right": writer, "answerable": 0.9},
        "accuracy_greedy": {"mean": 0.4},
        "sampled": {"pass@16": 0.9, "majority": 0.5},
    }
    return found | {"label_free": {"vote_agreement": judge, "gate_share": 0.5 + writer / 4, "attempt_agreement": 0.5}}


def design_values(**values: object) -> dict:
    """A preregistration, as its file has it, of six bases and arms that exist, for one round."""
    prose = ("question", "statistic", "correction", "verdicts", "exclusions", "failure")
    parts = [{"measure": "gain", "arms": ["asl"]}], [{"measure": "final", "arms": ["asl"], "less": ["frozen_grm"]}]
    found = dict.fromkeys(prose, "…") | {
        "bases": {"drawn": "at random", "names": [f"b{number:02}" for number in range(1, 7)]},
        "arms": {"rule_reward": 2, "frozen_grm": 1},
        "budget": {"rounds": 1},
        "settings": {},
        "modes": {"primary": "rule_reward", "other": "r_zero"},
        "headline": ["rule_reward", "frozen_grm"],
        "moderators": {"judge": "grm.balanced_accuracy"},
        "measures": {"gain": "…", "final": "…"},
        "claims": [
            {"id": "C3", "claim": "it solves better", "parts": parts[0], "also": ["other"]},
            {"id": "C6", "claim": "the judge has to learn", "parts": parts[1], "note": "said of it"},
        ],
    }
    return found | values


def write_design(file: Path, **values: object) -> Preregistration:
    file.write_text(yaml.safe_dump(design_values(**values), sort_keys=False))
    return designs.read(file)


def write_results(folder: Path, summaries: Iterable[dict], measure: Callable[[int], dict] | None = None) -> None:
    """runs/ and, with `measure` (of the base's number), bases/."""
    (folder / "runs").mkdir(parents=True)
    for found in summaries:
        name = run_name(*name_of(found))
        (folder / "runs" / f"{name}.json").write_text(dump(found))
    if measure:
        (folder / "bases").mkdir()
        for number in range(1, 7):
            (folder / "bases" / f"b{number:02}.json").write_text(json.dumps(measure(number)))
