"""The model writes questions about the articles, for the cold start's demonstrations on prose.

    python -m asl_min.real.write_questions --drafts 6000

Into build/real/questions.jsonl goes a row a draft, whether it passed or not, with the check that it failed. A run that
was interrupted goes on where it stopped.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    drafts = argument("--drafts", type=int, default=6000, help="questions to ask the model for (6000)")
    base = argument("--base", metavar="NAME", default="build/real/smollm2-135m", help="folder or hub id of the model")
    corpus = argument("--corpus", type=Path, metavar="FILE", default=Path("build/real/articles.jsonl"))
    out = argument("--out", type=Path, metavar="FILE", default=Path("build/real/questions.jsonl"))
    start("asl_min.real.write_questions", __doc__, drafts, base, corpus, out)

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, read_jsonl
from asl_min.model import load_base, load_tokenizer
from asl_min.real.checks import FAULTS, fault_of, gives_back
from asl_min.real.drafts import Draft, answer_back, drafts, write_questions
from asl_min.run import terminal
from asl_min.run.errors import InputError
from asl_min.sampling.generate import Generator
from asl_min.sampling.sampler import Sampler
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import SearchTool

PER_ARTICLE, BATCH, SEED = 2, 64, 0


def checked(
    batch: Sequence[Draft], chat: Chat, sampler: Sampler, leads: dict[str, str], tool: SearchTool
) -> list[Draft]:
    """The drafts with a question each, and the check that each failed."""
    written = [replace(d, question=q) for d, q in zip(batch, write_questions(chat, sampler, batch), strict=True)]
    written = [replace(d, fault=fault_of(d, leads[d.title], tool)) for d in written]
    sound = [draft for draft in written if not draft.fault]
    replies = iter(answer_back(chat, sampler, sound))
    return [
        draft if draft.fault or gives_back(next(replies), draft.answer) else replace(draft, fault=FAULTS[-1])
        for draft in written
    ]


def read_drafts(file: Path) -> list[Draft]:
    """Raises `InputError` on a row that is no draft."""
    found = []
    for number, row in read_jsonl(file):
        try:
            found.append(Draft(**row))
        except TypeError:
            raise InputError(f"{file}:{number}: not a draft: {row!r}") from None
    return found


def drop_half_line(file: Path) -> None:
    """What a killed run wrote last may be half a row."""
    if file.is_file() and not (text := file.read_bytes()).endswith(b"\n"):
        file.write_bytes(text[: text.rfind(b"\n") + 1])


def report(found: Sequence[Draft]) -> dict[str, float]:
    """Share of drafts that passed, and that failed each check."""
    counts = Counter(draft.fault or "passed" for draft in found)
    return {name: round(counts[name] / max(len(found), 1), 4) for name in ("passed", *FAULTS)}


def main(args: Namespace) -> None:
    articles, config = load_corpus(args.corpus), Config(base_model=args.base)
    if args.dry_run:
        terminal.tell(f"{args.out}: would get {args.drafts} drafts", drafts=args.drafts, articles=len(articles))
        return
    drop_half_line(args.out)
    done = read_drafts(args.out) if args.out.is_file() else []
    chat = Chat(load_tokenizer(config), config.prompts)
    sampler, tool = Generator(load_base(config).eval(), chat), Bm25Search(articles, 1)
    leads, wanted = {a.title: a.text for a in articles}, drafts(articles, PER_ARTICLE, SEED)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    left = islice(wanted, len(done), max(args.drafts, len(done)))
    while batch := list(islice(left, BATCH)):
        done += checked(batch, chat, sampler, leads, tool)
        with open(args.out, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(d.record(), ensure_ascii=False) + "\n" for d in done[-len(batch) :])
        terminal.say(f"{len(done)} drafts, {report(done)['passed']:.1%} passed", "drafts", done=len(done))
    terminal.tell("\n".join(f"{name}: {share:.1%}" for name, share in report(done).items()), **report(done))
