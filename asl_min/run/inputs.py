"""What stands before a run, and before its dry run: every input is checked, then the run folder is made."""

from collections.abc import Callable
from pathlib import Path

from asl_min import recipes
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, load_judgments, load_questions
from asl_min.model import empty_base, load_tokenizer
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.run.shard import accelerator_of
from asl_min.run.trackers import check_tracker


def check_inputs(config: Config, run: Path | None = None) -> None:
    """Raises `InputError` on anything that a run could fail on later."""
    if run:
        run_dir.check_place(run)
        run_dir.refuse_conflict(run, config)
    check_tracker(config)
    Chat(load_tokenizer(config), config.prompts)
    empty_base(config)
    check_file(config, "corpus", load_corpus)
    if config.questions:
        check_file(config, "questions", load_questions)
    if config.judgments:
        check_file(config, "judgments", load_judgments)
    if recipes.load(config).labelled_questions():
        check_file(config, "labelled_questions", load_questions)
    if config.inject_round:
        check_file(config, "labelled_judgments", load_judgments)


def check_file(config: Config, key: str, read: Callable[[Path], object]) -> None:
    """Raises `InputError` naming the key of a file that cannot be read."""
    try:
        read(config.path(getattr(config, key)))
    except InputError as error:
        raise InputError(f"key '{key}': {error}") from None


def prepare(run: Path, config: Config) -> None:
    """Check every input before any work starts, then make (or accept) the run folder."""
    check_inputs(config, run)
    accelerator = accelerator_of(config)
    if accelerator.is_main_process:
        run_dir.create(run, config)
    accelerator.wait_for_everyone()
