"""Write the corpus, the QA set and the gold judgments of both halves of the embedded world to
`asl_min/world/data/HALF/`.

The target half also gets labelled questions and judgments (`train_*.jsonl`) that share no question with those of the
evaluation: only the recipes that openly use gold read them. They use no held-out phrasing or path.

    python -m asl_min.world.tiny.build_world
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import start

    start("asl_min.world.tiny.build_world", __doc__)

import random
from argparse import Namespace
from pathlib import Path

from asl_min.corpus import write_jsonl
from asl_min.run import terminal
from asl_min.world.passages import passages, shown
from asl_min.world.questions import STRATA, questions
from asl_min.world.values import near_miss
from asl_min.world.world import Query, World, load_world

DATA = Path(__file__).parents[1] / "data"
PER_HOP, TRAIN_PER_HOP = 204, 64


def judgments(world: World, rows: list[dict], seed: int) -> list[dict]:
    """Gold judgments of candidate answers, half right and half wrong, all numbers of hops in turn: `question, answer,
    label, metadata`.

    One right candidate in three is in other words than the page's, where there are any. Wrong candidates are near
    misses (such as a number without its decimals), intermediate entities, other facts of the same page, or the same
    fact of another entity.
    """
    rng, found = random.Random(seed), []
    hops = sorted({row["metadata"]["hops"] for row in rows})
    by_hops = [[row for row in rows if row["metadata"]["hops"] == number] for number in hops]
    for turn in zip(*by_hops, strict=True):
        for row in turn:
            label = (len(found) // len(hops)) % 2 == 0
            answer, kind = (right_answer if label else wrong_answer)(world, row, rng)
            metadata = {key: row["metadata"][key] for key in ("hops", "relation", "phrasing", "path_kind")}
            found.append(
                {
                    "id": str(len(found)),
                    "question": row["question"],
                    "answer": answer,
                    "label": label,
                    "metadata": metadata | {"kind": kind},
                }
            )
    return found


def right_answer(world: World, row: dict, rng: random.Random) -> tuple[str, str]:
    golden = row["golden_answers"]
    if len(golden) > 1 and rng.random() < 1 / 3:
        return rng.choice(golden[1:]), "right, in other words"
    return golden[0], "right"


def wrong_answer(world: World, row: dict, rng: random.Random) -> tuple[str, str]:
    query = Query(row["metadata"]["start"], tuple(row["metadata"]["path"]))
    nodes, relation = world.walk(query), query.path[-1]
    page = world.entities[nodes[-1]]
    peers = [peer for peer in world.of_kind(page.kind) if relation in peer.facts]
    makers = {
        "near miss": lambda: near_miss(shown(page, relation, world), rng),
        "intermediate": lambda: rng.choice(nodes[1:]) if query.hops > 1 else None,
        "other fact": lambda: shown(page, rng.choice([name for name in page.facts if name != relation]), world),
        "elsewhere": lambda: shown(rng.choice(peers), relation, world),
    }
    while True:
        kind = rng.choice(list(makers))
        answer = makers[kind]()
        if answer and answer not in row["golden_answers"]:
            return answer, kind


def train_set(world: World, rows: list[dict]) -> list[dict]:
    """Questions of seen phrasing and path, `TRAIN_PER_HOP` of each number of hops, none of them among `rows`."""
    found = questions(world, len(STRATA) * TRAIN_PER_HOP, seed=1, without=rows)
    seen = [row for row in found if (row["metadata"]["phrasing"], row["metadata"]["path_kind"]) == STRATA[0]]
    by_hops = {
        hops: [r for r in seen if r["metadata"]["hops"] == hops] for hops in {r["metadata"]["hops"] for r in seen}
    }
    return [row for hops in sorted(by_hops) for row in by_hops[hops][:TRAIN_PER_HOP]]


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would write the files of both halves to {DATA}")
        return
    for half in ("base", "target"):
        world = load_world(half)
        rows = questions(world, PER_HOP, seed=0)
        write_jsonl(DATA / half / "corpus.jsonl", passages(world))
        write_jsonl(DATA / half / "questions.jsonl", rows)
        write_jsonl(DATA / half / "judgments.jsonl", judgments(world, rows, seed=0))
        print(f"{half}: {len(world.entities)} entities, {len(passages(world))} passages, {len(rows)} questions")
        if half == "target":
            train = train_set(world, rows)
            write_jsonl(DATA / half / "train_questions.jsonl", train)
            write_jsonl(DATA / half / "train_judgments.jsonl", judgments(world, train, seed=1))
