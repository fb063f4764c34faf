"""How the model reads before it is trained: its own short answers to questions about a page, after a few examples.

The cold start must teach a protocol and roles, and leave the reading as it is. An adapter that imitated answers found
by rules lost it: of 48 validation questions, with the right page and the examples below in front, the model answers 33%
exactly; after 600 such steps 10% (LOG.md). So only those answers are imitated that the model gives by itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from asl_min.chat import Chat
from asl_min.corpus import read_jsonl
from asl_min.real.drafts import Draft
from asl_min.real.spans import overlap
from asl_min.run import terminal
from asl_min.sampling.generate import Generator

EXAMPLES = """\
Text: The Rhine is one of the major rivers in Europe. It begins in the Swiss Alps and flows into the North Sea.
Question: Where does the Rhine begin?
Answer: Swiss Alps

Text: Marie Curie (7 November 1867 – 4 July 1934) was a Polish and French physicist who did research on radioactivity. \
She shared the Nobel Prize in 1903 with her husband Pierre Curie.
Question: Who shared the Nobel Prize with Marie Curie?
Answer: Pierre Curie

Text: The kiwi is a flightless bird of New Zealand. It lays the largest egg, for its size, of any bird. There are five \
species.
Question: How many species of kiwi are there?
Answer: five

Text: Penicillin is a group of antibiotics made from moulds. It was discovered in 1928 by Alexander Fleming.
Question: When was penicillin discovered?
Answer: 1928

Text: Blue cheese is made with cultures of the mold Penicillium. Roquefort and Stilton are famous ones.
Question: What mold is blue cheese made with?
Answer: Penicillium

"""
"""Written for this purpose; about nothing that is evaluated."""
MOST_WORDS, MOST_TOKENS = 130, 12
"""Of a page that is read, and of an answer."""
BATCH = 64


def own_answers(
    model: PreTrainedModel, chat: Chat, drafts: Sequence[Draft], leads: dict[str, str], file: Path
) -> dict[str, str]:
    """The model's greedy answer by question. `leads`: an article's text by title. Answers are kept in `file`, a row
    each, and those that it has already are not asked for again."""
    known = {row["question"]: row["answer"] for _, row in read_jsonl(file)} if file.is_file() else {}
    due = [draft for draft in drafts if draft.question not in known]
    generator = Generator(model, chat)
    for first in range(0, len(due), BATCH):
        batch = due[first : first + BATCH]
        contexts = [chat.plain(asked(draft, leads[draft.title])) for draft in batch]
        found = generator.generate(contexts, [0] * len(batch), [MOST_TOKENS] * len(batch), 0.0)
        answers = [chat.decode(list(one.ids)).split("\n")[0].strip().rstrip(".") for one in found]
        with file.open("a") as opened:
            for draft, answer in zip(batch, answers, strict=True):
                known[draft.question] = answer
                opened.write(json.dumps({"question": draft.question, "answer": answer}) + "\n")
        done = first + len(batch)
        terminal.say(f"own answers: {done} of {len(due)}", "own_answers", done=done, of=len(due))
    return known


def asked(draft: Draft, lead: str) -> str:
    page = " ".join(lead.split()[:MOST_WORDS])
    return f"{EXAMPLES}Text: {page}\nQuestion: {draft.question}\nAnswer:"


def agreed(drafts: Sequence[Draft], own: dict[str, str]) -> list[Draft]:
    """The questions to which the model gives the answer that the rule has, perhaps in more or fewer words."""
    return [draft for draft in drafts if overlap(own[draft.question], draft.answer)]
