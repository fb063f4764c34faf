"""Write the corpus, the QA set and the gold judgments of both halves of the embedded world to
`asl_min/world/data/HALF/`.

The target half also gets labelled questions and judgments (`train_*.jsonl`) that share no question with those of the
evaluation: only the recipes that openly use gold read them.

python -m asl_min.world.tiny.build_world
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import start

    start(
        "asl_min.world.tiny.build_world",
        __doc__,
    )

import random
from argparse import Namespace
from pathlib import Path

from asl_min.corpus import write_jsonl
from asl_min.run import terminal
from asl_min.world.world import Query, World, load_world, passages, questions, without_decimals

DATA = Path(__file__).parents[1] / "data"
PER_HOP = 300


def judgments(world: World, rows: list[dict], seed: int, hops: tuple[int, ...] = (1, 2)) -> list[dict]:
    """Gold judgments of candidate answers, half right and half wrong, these numbers of hops in turn: `question, answer,
    label, metadata`.

    Wrong candidates are an intermediate entity (half of those of several hops), another fact of the same page, the
    answer to another question that asks for the same relation, or nearly right: a population without its decimals (half
    of those where there are any).
    """
    rng, found = random.Random(seed), []
    by_hops = [[row for row in rows if row["metadata"]["hops"] == number] for number in hops]
    for turn in zip(*by_hops, strict=True):
        for row in turn:
            label = (len(found) // len(hops)) % 2 == 0
            answer, kind = ("", "right") if label else wrong_answer(world, row, rows, rng)
            metadata = {"hops": row["metadata"]["hops"], "kind": kind}
            found.append(
                {
                    "id": str(len(found)),
                    "question": row["question"],
                    "answer": answer or right_answer(row, rng),
                    "label": label,
                    "metadata": metadata,
                }
            )
    return found


def right_answer(row: dict, rng: random.Random) -> str:
    """The gold string, or in one case in ten another right one."""
    golden = row["golden_answers"]
    return rng.choice(golden) if rng.random() < 0.1 else golden[0]


def wrong_answer(world: World, row: dict, rows: list[dict], rng: random.Random) -> tuple[str, str]:
    query = Query(row["metadata"]["start"], tuple(row["metadata"]["path"]))
    nodes = world.walk(query)
    page = world.entities[nodes[-1]]
    peers = [r for r in rows if r["metadata"]["path"][-1] == query.path[-1]]
    options = {
        "other fact": [f.answers[0] for name, f in page.facts.items() if name != query.path[-1]],
        "elsewhere": [r["golden_answers"][0] for r in peers],
    }
    if query.hops > 1:
        options["intermediate"] = [nodes[-1]]
    kinds = (
        ["intermediate", "intermediate", "other fact", "elsewhere"] if query.hops > 1 else ["other fact", "elsewhere"]
    )
    if (near := without_decimals(row["golden_answers"][0])) != row["golden_answers"][0]:
        options["nearly right"], kinds = [near], kinds + ["nearly right"] * len(kinds)
    while True:
        kind = rng.choice(kinds)
        answer = rng.choice(options[kind])
        if answer not in row["golden_answers"]:
            return answer, kind


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
            train = questions(world, PER_HOP, seed=1, without=rows)
            write_jsonl(DATA / half / "train_questions.jsonl", train)
            write_jsonl(DATA / half / "train_judgments.jsonl", judgments(world, train, seed=1, hops=(1, 2, 3)))
