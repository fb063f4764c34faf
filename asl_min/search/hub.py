"""Download what the paper searches and is evaluated on from the Hugging Face hub: Wikipedia 2018 (21M passages, 14 GB)
with its E5 index (64 GB), and seven QA sets.

    python -m asl_min.search.hub corpus --out data/wiki18
    python -m asl_min.search.hub e5 --out data/wiki18/e5
    python -m asl_min.search.hub questions --out data/flashrag

corpus: corpus.jsonl, and topics.jsonl: passages whose titles the Prompt Generator starts from. e5: the dense index of
that corpus, ready for asl_min.search.server. questions: questions.jsonl, `--per-set` questions of each set in turn.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import above_zero, argument, start

    what = argument("what", choices=("corpus", "e5", "questions"))
    out = argument("--out", type=Path, required=True, help="folder")
    per_set = argument("--per-set", type=above_zero(int), default=100, help="questions of each set (100)")
    start("asl_min.search.hub", __doc__, what, out, per_set)

import gzip
import random
import shutil
from argparse import Namespace
from itertools import zip_longest
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from asl_min.corpus import load_questions, write_jsonl
from asl_min.run import hub, terminal
from asl_min.run.errors import InputError
from asl_min.search.disk import complete
from asl_min.search.passages import PassageFile

SETS = {
    "nq": "test",
    "triviaqa": "test",
    "popqa": "test",
    "hotpotqa": "dev",
    "2wikimultihopqa": "dev",
    "musique": "dev",
    "bamboogle": "test",
}
"""The split of each set that Search-R1 and others evaluate on."""
TOPICS = 5000
SOURCES = {
    "corpus": "PeterJinGo/wiki-18-corpus, 14 GB unpacked",
    "e5": "PeterJinGo/wiki-18-e5-index, 64 GB",
    "questions": "the seven sets of RUC-NLPIR/FlashRAG_datasets",
}


def fetch(repo: str, file: str) -> Path:
    """The file in the hub's cache, downloaded if it is not there yet. Raises `InputError` if the hub does not answer or
    does not have the file."""
    hub.reached()
    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset"))
    except (LocalEntryNotFoundError, HTTPError) as error:
        why = "the hub cannot be reached" if isinstance(error, LocalEntryNotFoundError) else str(error).split("\n")[0]
        raise InputError(f"{repo}: {file} is not in the hub's cache and was not downloaded: {why}") from None


def questions(out: Path, per_set: int) -> None:
    """Write the first `per_set` questions of each set, the sets in turn, so that the first lines of the file hold
    questions of all sets."""
    tables = []
    for name, split in SETS.items():
        rows = load_questions(fetch("RUC-NLPIR/FlashRAG_datasets", f"{name}/{split}.jsonl"))[:per_set]
        tables.append([row | {"id": f"{name}/{row['id']}", "metadata": {"dataset": name}} for row in rows])
    write_jsonl(out / "questions.jsonl", [row for turn in zip_longest(*tables) for row in turn if row])


def corpus(out: Path, seed: int = 0) -> None:
    """Write corpus.jsonl, and topics.jsonl with `TOPICS` passages drawn at random."""
    out.mkdir(parents=True, exist_ok=True)
    with (
        gzip.open(fetch("PeterJinGo/wiki-18-corpus", "wiki-18.jsonl.gz")) as packed,
        open(out / "corpus.tmp", "wb") as file,
    ):
        shutil.copyfileobj(packed, file, 2**24)
    (out / "corpus.tmp").replace(out / "corpus.jsonl")
    passages = PassageFile.scan(out / "corpus.jsonl")
    places = random.Random(seed).sample(range(len(passages)), min(TOPICS, len(passages)))
    write_jsonl(out / "topics.jsonl", [{"id": passages[i].id, "contents": passages[i].contents} for i in places])


def e5(out: Path) -> None:
    """Join the two parts of the index. Raises `InputError` if the corpus is not in the folder above."""
    passages = PassageFile.scan(out.parent / "corpus.jsonl")
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "flat.faiss", "wb") as whole:
        for part in ("part_aa", "part_ab"):
            with open(fetch("PeterJinGo/wiki-18-e5-index", part), "rb") as file:
                shutil.copyfileobj(file, whole, 2**24)
    complete(out, passages, "dense", "intfloat/e5-base-v2")


def main(args: Namespace) -> None:
    if args.dry_run:
        text = f"{args.out}: would get {args.what} from {SOURCES[args.what]}"
        terminal.tell(text, out=str(args.out), what=args.what, source=SOURCES[args.what])
        return
    {
        "corpus": lambda: corpus(args.out),
        "e5": lambda: e5(args.out),
        "questions": lambda: questions(args.out, args.per_set),
    }[args.what]()
