"""Which files hold gold answers. Which of them a phase may read, its recipe says (`gold_files`)."""

from pathlib import Path

from asl_min.config import Config
from asl_min.run import gold, run_dir


def declare_gold(run: Path, config: Config) -> None:
    """Tell the guard which files hold gold answers or were made with them."""
    names = (config.questions, config.judgments, config.labelled_questions, config.labelled_judgments)
    evaluations = [run_dir.phase_dir(run, number, "evaluation") for number in range(config.rounds + 1)]
    gold.declare(*(config.path(name) for name in names if name))
    gold.declare(*evaluations, run / "summary.json", run / "report")
