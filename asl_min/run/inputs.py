"""What stands before a run, and before its dry run: every input is checked, then the run folder is made."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

from asl_min import recipes
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import Passage, in_split, load_corpus, load_judgments, load_questions, topics
from asl_min.model import empty_base, load_tokenizer
from asl_min.run import run_dir, terminal
from asl_min.run.dry_run import writer_step
from asl_min.run.errors import InputError
from asl_min.run.machines import copy_run
from asl_min.run.shard import accelerator_of
from asl_min.run.shipped import PACKAGE
from asl_min.run.trackers import check_tracker

FEW_TOPICS = 20
"""Titles below which the first round keeps asking for the same."""
TINY = "dials.yaml"
"""What a base's folder holds if it was made here, for pages of the embedded world alone."""
SAMPLE = 200
"""Passages whose length is looked at."""
T = TypeVar("T")


def check_inputs(config: Config, run: Path | None = None, noting: bool = True) -> None:
    """Raises `InputError` on anything that a run could fail on later. `noting`: says what of a new run looks like a
    mistake."""
    if run:
        run_dir.check_place(run)
        run_dir.refuse_conflict(run, config)
    check_tracker(config)
    chat = Chat(load_tokenizer(config), config.prompts)
    empty_base(config)
    passages = check_file(config, "corpus", load_corpus)
    if config.questions:
        questions = check_file(config, "questions", load_questions)
        if config.eval_per_hop:
            in_split(questions, config.eval_per_hop, config.eval_split, per_hop=True)
    if config.judgments:
        judgments = check_file(config, "judgments", load_judgments)
        if config.eval_judgments:
            in_split(judgments, config.eval_judgments, config.eval_split)
    if recipes.load(config).labelled_questions():
        check_file(config, "labelled_questions", load_questions)
    if config.inject_round:
        check_file(config, "labelled_judgments", load_judgments)
    if noting and not (run and run_dir.has_begun(run)):
        for line in doubts(config, passages, chat):
            terminal.say(f"note: {line}", "note", what=line)


def check_file(config: Config, key: str, read: Callable[[Path], T]) -> T:
    """What is read. Raises `InputError` naming the key of a file that cannot be read."""
    try:
        return read(config.path(getattr(config, key)))
    except InputError as error:
        raise InputError(f"key '{key}': {error}") from None


def doubts(config: Config, passages: list[Passage], chat: Chat) -> list[str]:
    """What may well be a mistake, though the run would go through."""
    found, titles = [], topics(passages)
    again = [name for name, times in Counter(passage.id for passage in passages).items() if times > 1]
    if again:
        found.append(f"corpus: {len(again)} ids stand for more than one passage, such as {again[0]!r}")
    if len(titles) < FEW_TOPICS:
        found.append(f"corpus: {len(passages)} passages under {len(titles)} titles; tasks will repeat themselves")
    world = PACKAGE / "world" / "data" in config.path(config.corpus).resolve().parents
    if (config.path(config.base_model) / TINY).is_file() and not world:
        found.append(
            "base_model: a tiny base reads nothing but pages of the embedded world; expect nothing of use on another "
            "corpus (docs/own_documents.md)"
        )
    if 0 < config.round_rollouts < (step := writer_step(config)):
        found.append(
            f"round_rollouts: {config.round_rollouts}, but the Prompt Generator's first step alone may take {step}; "
            "the other roles get what it leaves"
        )
    lengths = [len(chat.plain(passage.contents)) for passage in passages[:: -(-len(passages) // SAMPLE)]]
    response = round(median(lengths) * min(config.top_k, len(passages)))
    if 2 * response > config.max_episode_tokens:
        found.append(
            f"max_episode_tokens: {config.max_episode_tokens}, but one search brings about {response} tokens "
            f"({config.top_k} passages); an episode has no room for two"
        )
    return found


def prepare(run: Path, config: Config) -> None:
    """Check every input before any work starts, then make (or accept) the run folder, on every machine."""
    check_inputs(config, run)
    accelerator = accelerator_of(config)
    if accelerator.is_main_process:
        run_dir.create(run, config)
    copy_run(accelerator, run)
