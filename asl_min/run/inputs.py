"""What stands before a run, and before its dry run: every input is checked, then the run folder is made."""

from pathlib import Path

from accelerate.tracking import get_available_trackers

from asl_min import recipes
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, load_judgments, load_questions
from asl_min.model import empty_base, load_tokenizer
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.run.shard import accelerator_of


def check_inputs(config: Config, run: Path | None = None) -> None:
    """Raises `InputError` on anything that a run could fail on later."""
    if run:
        run_dir.check_place(run)
        run_dir.refuse_conflict(run, config)
    if config.trackers and config.trackers not in map(str, get_available_trackers()):
        raise InputError(f"trackers: {config.trackers!r} is not installed")
    Chat(load_tokenizer(config), config.prompts)
    empty_base(config)
    load_corpus(config.path(config.corpus))
    if config.questions:
        load_questions(config.path(config.questions))
    if config.judgments:
        load_judgments(config.path(config.judgments))
    if labelled := recipes.load(config).labelled_questions():
        load_questions(labelled)
    if config.inject_round:
        load_judgments(config.path(config.labelled_judgments))


def prepare(run: Path, config: Config) -> None:
    """Check every input before any work starts, then make (or accept) the run folder."""
    check_inputs(config, run)
    accelerator = accelerator_of(config)
    if accelerator.is_main_process:
        run_dir.create(run, config)
    accelerator.wait_for_everyone()
