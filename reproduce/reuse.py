"""Runs that begin alike are computed once: the base's evaluation is the same for all arms of a base and seed, and an
arm that departs from another in a late round shares the rounds before. What is shared is copied from the other run's
folder, where it is on this machine; tests/test_reuse.py computes both ways and compares the files."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from asl_min.config import MAY_CHANGE, Config
from asl_min.model import ROLES
from asl_min.run import durable, run_dir
from reproduce.jobs import Job

TRAINING = {
    *("recipe", "frozen", "adapters", "learning_rate", "kl_coef", "kl_reference", "pg_prompts", "pg_samples"),
    *("pg_max_steps", "attempts", "verify_samples", "fresh_share", "grm_max_steps", "policy_tasks", "meta_prompts"),
    *("oracle_from_round", "inject_round", "inject_share"),
}
"""Keys that the evaluation of the base does not read."""
LATE = {"oracle_from_round", "inject_round"}
"""Keys that name the first round that they change."""
BEFORE_ITS_ROUND = {"oracle_judge_gen_rm": "asl_gen_rm", "oracle_judge": "asl_hybrid"}
"""Recipes that are another one until their round comes."""


def shared_rounds(one: Config, other: Config) -> int | None:
    """The last round that two runs have in common, 0 where it is the base alone; None where not even that."""
    values, others = asdict(one), asdict(other)
    different = {key for key in values if values[key] != others[key]} - MAY_CHANGE - {"arm"}
    if different - TRAINING:
        return None
    if BEFORE_ITS_ROUND.get(one.recipe, one.recipe) == BEFORE_ITS_ROUND.get(other.recipe, other.recipe):
        different.discard("recipe")
    if different - LATE:
        return 0
    return min([config[key] for key in different for config in (values, others) if config[key]], default=1) - 1


def take_over(job: Job, others: Iterable[Job]) -> int | None:
    """Fill the run's folder, if it has no round yet, with what another one has that began alike: of these the one with
    most rounds. Returns the last round copied, None where nothing was."""
    if any(job.run.glob("round_*")):
        return None
    config = job.config()
    near = [other for other in others if (other.base, other.seed) == (job.base, job.seed) and other != job]
    alike = [(other.run, shared_rounds(config, other.config())) for other in near]
    done = [(_finished(run, most), run) for run, most in alike if most is not None]
    last, source = max(((last, run) for last, run in done if last is not None), default=(None, None))
    if source is None:
        return None
    if job.run.is_dir():
        with run_dir.held(job.run):  # another process may be at its first evaluation
            pass
    with durable.new_folder(job.run) as folder:
        for number in range(last + 1):  # without cards, which name the other run
            copied = source / f"round_{number:02d}", folder / f"round_{number:02d}"
            shutil.copytree(*copied, ignore=shutil.ignore_patterns(run_dir.CARD))
        run_dir.note_start(folder)
    return last


def _finished(run: Path, most: int) -> int | None:
    """The last of the first rounds, `most` at most, that a run has finished; None where it has none."""
    phases = [["evaluation"]] + [[*ROLES, "evaluation"]] * most
    done = [all(run_dir.is_done(run, number, phase) for phase in own) for number, own in enumerate(phases)]
    return [*done, False].index(False) - 1 if done[0] else None
