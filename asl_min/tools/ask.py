"""Ask a trained agent a question, and see how it searches.

    python -m asl_min.tools.ask runs/NAME "What is the capital of the country where Lyon lies?"
    python -m asl_min.tools.ask runs/NAME/round_02 --compare base "Which city is the largest of France?"
    python -m asl_min.tools.ask some/peft/adapter --config configs/own_corpus.yaml corpus=my_corpus.jsonl

A checkpoint is a run (after its last finished round), one of its round folders, any peft adapter (a folder, or
OWNER/NAME on the hub), or "base".
Base model and corpus are those of the run or of --config, for "base" alone those of the miniature. Without a question,
questions are read line by line. Answers are greedy.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import CONFIG, argument, start

    start(
        "asl_min.tools.ask",
        __doc__,
        argument("checkpoint", help="a run, a round of it, a peft adapter, or 'base'"),
        argument("words", nargs="*", metavar="question", help="and key=value, values over those of --config"),
        argument("--compare", metavar="CHECKPOINT", help="a second one for the same questions"),
        CONFIG,
    )


import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from asl_min import protocol, roles
from asl_min.config import Config, load_config
from asl_min.episode import Episode, Turn
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.run import command, hub, run_dir, terminal
from asl_min.run.errors import InputError

MINIATURE = "configs/tiny.yaml"
WIDE = 120
"""Columns that a terminal needs to show two checkpoints side by side."""


def adapters_of(checkpoint: str, config: Config) -> dict[str, Path]:
    """The adapter folder of each role. Raises `InputError` if the checkpoint is none of the four kinds, or a round that
    the run does not have or has not finished."""
    path = Path(checkpoint)
    if checkpoint == "base":
        return {}
    if (path / "adapter_config.json").is_file():
        return dict.fromkeys(ROLES, path)
    if (path / "config.yaml").is_file():
        return run_dir.latest_adapters(path, config, last_round(path), None)
    number = path.name.removeprefix("round_")
    if (path.parent / "config.yaml").is_file() and number != path.name and number.isdigit():
        return adapters_after(path.parent, int(number), config)
    if hub.is_meant(checkpoint):
        return dict.fromkeys(ROLES, hub.adapter(checkpoint))
    require_path(path)
    raise InputError(f"{checkpoint}: neither a run, nor a round of one, nor a peft adapter, nor 'base'")


def adapters_after(run: Path, number: int, config: Config) -> dict[str, Path]:
    """The adapter folder of each role after a round of a run. Raises `InputError` if there is no such round."""
    rounds = run_dir.read_config(run).rounds
    if number > rounds:
        raise InputError(f"{run}: has no round {number}; its last one is {rounds}")
    return run_dir.latest_adapters(run, config, number, None)


def require_path(path: Path) -> None:
    """Raises `InputError` if there is nothing at this path."""
    if not path.exists():
        raise InputError(f"{path}: no such run, round or adapter")


def last_round(run: Path) -> int:
    """The last finished round of a run; 0 (the base) if there is none."""
    rounds = run_dir.read_config(run).rounds
    return max((n for n in range(1, rounds + 1) if run_dir.is_done(run, n, "policy")), default=0)


def config_of(checkpoints: list[str], file: Path | None, overrides: list[str]) -> Config:
    """The given config file; else the config of the first run that a checkpoint belongs to; else, for the base alone,
    the miniature; with the overrides. Raises `InputError` for an adapter that belongs to no run."""
    folders = [folder for path in map(Path, checkpoints) for folder in (path, *path.parents)]
    run = next((folder for folder in folders if (folder / "config.yaml").is_file()), None)
    trained = [checkpoint for checkpoint in checkpoints if checkpoint != "base"]
    if file or run:
        return command.config_of(file, None if file else run, overrides)
    if not trained:
        return load_config(MINIATURE, **command.parse_overrides(overrides))
    if hub.is_meant(trained[0]):
        raise InputError(f"{trained[0]}: no such path here; if it is an adapter of the hub, name a --config")
    require_path(Path(trained[0]))
    raise InputError(f"{trained[0]}: belongs to no run; name a --config")


def ask(agent: Agent, question: str) -> Episode:
    """One greedy episode of the policy."""
    return agent.rollout("policy", roles.solve_requests([question], 1, agent.config.seed, "ask"), 0.0)[0]


def shown(title: str, episode: Episode) -> Panel:
    """The episode's turns, and its answer or the reason why there is none."""
    answer = roles.answer_of(episode)
    last = (
        Text(f"answer: {clean(answer)}", "bold green")
        if answer
        else Text(f"no answer (ended: {episode.finish_reason.value})", "bold red")
    )
    return Panel(
        Group(*(line for turn in episode.turns for line in lines(turn)), last),
        title=Text(clean(title)),
        title_align="left",
    )


def lines(turn: Turn) -> Iterator[Text]:
    """The turn's thought, its queries and the passages it got."""
    thought = protocol.thought(turn.text)
    yield Text(clean(thought if thought is not None else turn.text), "italic")
    if turn.queries:
        yield Text(f"search: {clean(' | '.join(turn.queries))}", "bold blue")
    if turn.response is not None:
        yield Text(clean(turn.response), "dim")


def clean(text: str) -> str:
    """The text without terminal escape codes, which model output and passages may contain."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def questions(given: str | None) -> Iterator[str]:
    """The question given, else one for each line of standard input."""
    if given is not None:
        yield given
        return
    while True:
        try:
            question = input("question> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if question:
            yield question


def main(args: Namespace) -> None:
    question, overrides = split_words(args.words)
    checkpoints = [c for c in (args.checkpoint, args.compare) if c]
    config = config_of(checkpoints, args.config, overrides)
    found = {checkpoint: adapters_of(checkpoint, config) for checkpoint in checkpoints}
    if args.dry_run:
        adapters = {checkpoint: str(a["policy"]) if a else None for checkpoint, a in found.items()}
        where = f"on {config.base_model}, corpus {config.corpus}"
        text = "\n".join(f"{c}: {adapter or 'no adapter'} {where}" for c, adapter in adapters.items())
        terminal.tell(text, adapters=adapters, base_model=config.base_model, corpus=config.corpus)
        return
    agents = {checkpoint: Agent(config, adapters) for checkpoint, adapters in found.items()}
    for asked in questions(question):
        answer(agents, asked)


def split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """The question, if there is one, and the key=value arguments. Raises `InputError` on two questions."""
    overrides = [word for word in words if word.partition("=")[0].isidentifier() and "=" in word]
    asked = [word for word in words if word not in overrides]
    if len(asked) > 1:
        raise InputError(f"argument {asked[1]!r}: a second question; put quotes around the whole of one")
    return (asked[0] if asked else None), overrides


def answer(agents: dict[str, Agent], question: str) -> None:
    """Ask every checkpoint and print the episodes: as panels, as JSON lines, or the answers alone."""
    episodes = {checkpoint: ask(agent, question) for checkpoint, agent in agents.items()}
    if terminal.mode == "bar":
        console, panels = Console(), [shown(checkpoint, episode) for checkpoint, episode in episodes.items()]
        side_by_side = Table.grid(*[Column(ratio=1) for _ in panels], expand=True)
        side_by_side.add_row(*panels)
        console.print(side_by_side if console.width >= WIDE else Group(*panels))
        return
    for checkpoint, episode in episodes.items():
        said, turns = roles.answer_of(episode), [asdict(turn) for turn in episode.turns]
        facts = {"checkpoint": checkpoint, "question": question, "answer": said, "turns": turns}
        terminal.tell(clean(str(said)), **facts)
