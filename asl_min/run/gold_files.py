"""Which files hold gold answers, and which of them a recipe openly gives to a phase of training."""

from pathlib import Path

from asl_min.config import Config, gold_keys
from asl_min.run import gold, run_dir
from asl_min.world.world import GEOGRAPHY


def declare_gold(run: Path, config: Config) -> None:
    """Tell the guard which files hold gold answers or were made with them."""
    names = (config.questions, config.judgments, config.labelled_questions, config.labelled_judgments)
    evaluations = [run_dir.phase_dir(run, number, "evaluation") for number in range(config.rounds + 1)]
    gold.declare(GEOGRAPHY, *(config.path(name) for name in names if name))
    gold.declare(*evaluations, run / "summary.json", run / "report")


def open_gold(config: Config, round_number: int, role: str) -> list[Path]:
    """The gold files that this phase of this round may read, because the recipe says so; none for a recipe without
    labels."""
    used = gold_keys(config)
    if role == "policy" and used["labelled_questions"]:
        return [config.path(config.labelled_questions)]
    if role == "reward_model" and round_number == config.inject_round:
        return [config.path(config.labelled_judgments)]
    return [GEOGRAPHY] if oracle_judges(config, round_number, role) else []


def oracle_judges(config: Config, round_number: int, role: str) -> bool:
    """Whether the recipe puts the oracle in the place of the reward model in this phase."""
    return role != "reward_model" and 0 < config.oracle_from_round <= round_number
