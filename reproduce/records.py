"""The recorded runs: summaries by arm and base, in the short form that is kept of them."""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from asl_min.corpus import refuse_no_file
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_summary

RESULTS = Path(__file__).parent / "results"
Runs = dict[str, dict[str, list[dict]]]
"""Summaries by arm and base, one for each seed."""
Name = tuple[str, str, int]
"""Base, arm and seed: what tells runs apart."""
KEPT = {
    "accuracy": {"mean", "seen", "held_out_phrasing", "held_out_path", "hop1", "hop2", "hop3", "hop4", "sets"},
    "accuracy_greedy": {"mean"},
    "grm": {"balanced_accuracy", "consistency", "by_kind"},
    "pg": {"answerable", "right"},
    "phase": {"judge_reward", "true_accuracy", "drafts", "kept", "labels_right"},
    "drafts": {"answerable", "right", "hops", "distinct", "n"},
    "kept": {"answerable", "right", "hops", "n"},
    "frozen": {"accuracy"},
    "trace": {"tool_use", "tool_same", "rewards_explained", "lineage"},
}
"""What a kept summary holds of a round's nested measures: what claims, tables, figures and checks read. Numbers that
stand in the round itself are all kept."""
DIGITS = 5


def read_summary(file: Path) -> dict:
    """A run's summary.json with today's names. Raises `InputError` where the file is none."""
    refuse_no_file(file)
    try:
        summary = upgrade_summary(json.loads(file.read_text()))
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{file}: not the summary of a run") from None
    rounds = summary["rounds"]
    if not isinstance(rounds, list) or not rounds or not all(isinstance(row, dict) for row in rounds):
        raise InputError(f"{file}: 'rounds' must be a list of objects that is not empty")
    if type(summary.get("seed")) is not int:
        raise InputError(f"{file}: 'seed' must be a whole number, found {summary.get('seed')!r}")
    return summary


def read_summaries(folder: Path) -> dict[Name, dict]:
    """The summaries in a folder. Raises `InputError` where it holds none, a file that is none, or two of the same base,
    arm and seed."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[Name, dict] = {}
    for file in sorted(folder.glob("*.json")):
        summary = read_summary(file)
        if name_of(summary) in found:
            raise InputError(f"{file}: a second summary of the run {run_name(*name_of(summary))}")
        found[name_of(summary)] = summary
    if not found:
        raise InputError(f"{folder}: holds no summary of a run (*.json)")
    return found


def read_variants(folder: Path) -> list[dict[Name, dict]]:
    """The summaries of each variant of a small profile, which the folder has the name of. Raises `InputError` where
    there are none, or where one variant lacks a run that another one has."""
    there = {variant.name: read_summaries(variant) for variant in sorted(folder.glob("*/")) if variant.is_dir()}
    every = sorted({*chain(*there.values())})
    lacking = [f"{name} lacks {run_name(*run)}" for name, own in there.items() for run in every if run not in own]
    if lacking or not there:
        what = ", ".join(lacking) or "holds no summaries"
        raise InputError(f"{folder}: {what}; `make reproduce PROFILE={folder.name}` makes them")
    return list(there.values())


def name_of(summary: dict) -> Name:
    return base_name(summary["config"].get("base_model", "")), summary["arm"], summary["seed"]


def base_name(base_model: str) -> str:
    """A base's folder, without where it lies on this machine."""
    return Path(base_model).name


def run_name(base: str, arm: str, seed: int) -> str:
    return f"{base}_{arm}_seed{seed}"


def by_arm(summaries: Iterable[dict]) -> Runs:
    """In the order of base, then seed."""
    runs: Runs = {}
    for summary in sorted(summaries, key=lambda s: (name_of(s)[0], s["seed"])):
        runs.setdefault(summary["arm"], {}).setdefault(name_of(summary)[0], []).append(summary)
    return runs


def read_bases(folder: Path) -> dict[str, dict]:
    """What each base is like before the loop, by its name: NAME.json in the folder; none where there is no folder.
    Raises `InputError` where a file is no JSON object."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        try:
            found[file.stem] = json.loads(file.read_text())
        except ValueError as error:
            raise InputError(f"{file}: not JSON: {error}") from None
        if not isinstance(found[file.stem], dict):
            raise InputError(f"{file}: expected an object of measures")
    return found


def compact(summary: dict) -> dict:
    """What is kept of a summary: `KEPT`, numbers to `DIGITS` digits. A compact summary stays as it is."""
    return _rounded(summary | {"rounds": [_pick(row) for row in summary["rounds"]]})


def _pick(row: dict) -> dict:
    return {
        key: _pick({name: value[name] for name in value if name in KEPT[key]})
        if key in KEPT and isinstance(value, dict)
        else value
        for key, value in row.items()
    }


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def dump(summary: dict) -> str:
    """A line for the config and one for each round, so that differences between versions can be read."""
    parts = {key: json.dumps(value, separators=(",", ":")) for key, value in summary.items()}
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in summary["rounds"])
    parts["rounds"] = f"[\n{rows}\n]"
    return "{\n" + ",\n".join(f"{json.dumps(key)}:{text}" for key, text in parts.items()) + "\n}\n"
