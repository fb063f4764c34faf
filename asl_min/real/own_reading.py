"""What the model makes of a page before it is trained: its own short answers, and its own questions, after a few
examples.

The cold start must teach a protocol and roles, and leave the reading as it is. An adapter that imitated answers found
by rules lost it: of 48 validation questions, with the right page and the examples below in front, the model answers 33%
exactly; after 600 such steps 10% (LOG.md). So only those answers are imitated that the model gives by itself.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from asl_min.corpus import Passage, read_jsonl, write_jsonl
from asl_min.real.checks import fault_of, names
from asl_min.real.drafts import Draft
from asl_min.real.spans import kind_of, overlap, sentences
from asl_min.rewards import exact_match
from asl_min.run import terminal
from asl_min.sampling.generate import Generator
from asl_min.search.tool import SearchTool

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
FIRST_WORDS = (
    *("Who", "When", "Where", "What", "Which", "How many", "In which", "In what", "Who was", "Where was", "When was"),
    *("Where is", "What is the", "When did", "What did", "Who wrote"),
)
"""Of its own questions, so that they ask for all kinds of things."""
MOST_WORDS, ANSWER_TOKENS, QUESTION_TOKENS, ANSWER_WORDS = 130, 12, 30, 6
"""At most: words of a page, tokens of an answer, tokens of a question with its answer, words of that answer."""
TEMPERATURE, BATCH, SEED = 0.7, 64, 0
"""Of its own questions; pages or questions at a time."""


def own_answers(generator: Generator, drafts: Sequence[Draft], leads: dict[str, str], file: Path) -> dict[str, str]:
    """The model's greedy answer by question. `leads`: an article's text by title. Answers are kept in `file`, a row
    each, and those that it has already are not asked for again."""
    known = {row["question"]: row for row in kept(file)}
    for batch in batched([draft for draft in drafts if draft.question not in known], "own answers"):
        answers = answered(generator, [(leads[draft.title], draft.question) for draft in batch])
        pairs = zip(batch, answers, strict=True)
        known |= {draft.question: {"question": draft.question, "answer": answer} for draft, answer in pairs}
        write_jsonl(file, list(known.values()))
    return {question: row["answer"] for question, row in known.items()}


def agreed(drafts: Sequence[Draft], own: dict[str, str]) -> list[Draft]:
    """The questions to which the model gives the answer that the rule has, perhaps in more or fewer words."""
    return [draft for draft in drafts if overlap(own[draft.question], draft.answer)]


def own_questions(generator: Generator, articles: Sequence[Passage], tool: SearchTool, file: Path) -> list[Draft]:
    """Questions that the model itself writes, one a page at most: those that pass the checks, whose answer stands on
    the page and is given again when they are asked. Kept in `file`, a row a page, and not written again."""
    known = {row["title"]: row for row in kept(file)}
    for batch in batched([article for article in articles if article.title not in known], "own questions"):
        rows = [
            {"title": article.title, "question": question, "answer": answer}
            for article, (question, answer) in zip(batch, written(generator, batch), strict=True)
        ]
        asked = [(article, row) for article, row in zip(batch, rows, strict=True) if may_be_asked(article, row)]
        again = answered(generator, [(article.text, row["question"]) for article, row in asked])
        sure = {
            row["title"] for (_, row), answer in zip(asked, again, strict=True) if exact_match(answer, [row["answer"]])
        }
        unsure = [row["title"] for row in rows if row["title"] not in sure]
        known |= {row["title"]: row for row in rows} | {title: {"title": title, "question": None} for title in unsure}
        write_jsonl(file, list(known.values()))
    found = [(article, draft_of(article, row)) for article in articles if (row := known[article.title])["question"]]
    return [draft for article, draft in found if not fault_of(draft, article.text, tool)]


def written(generator: Generator, articles: Sequence[Passage]) -> list[tuple[str, str]]:
    """A question with its answer for each page, sampled; either may be empty."""
    rngs = [random.Random(f"{SEED} {article.title}") for article in articles]
    starts = [rng.choice(FIRST_WORDS) for rng in rngs]
    texts = [f"{before(article.text)}\nQuestion: {start}" for article, start in zip(articles, starts, strict=True)]
    found = completed(generator, texts, [rng.getrandbits(63) for rng in rngs], QUESTION_TOKENS, TEMPERATURE)
    parts = [f"{start}{text}".partition("\nAnswer:") for start, text in zip(starts, found, strict=True)]
    return [(question.strip(), first_line(answer)) for question, _, answer in parts]


def may_be_asked(article: Passage, row: dict) -> bool:
    """One question, and a short answer that stands on the page and not in it."""
    question, answer = row["question"], row["answer"]
    short = 0 < len(answer.split()) <= ANSWER_WORDS and answer in article.text
    return short and question.endswith("?") and "\n" not in question and not names(question, answer)


def draft_of(article: Passage, row: dict) -> Draft:
    answer = row["answer"].removeprefix("the ").removeprefix("The ")
    sentence = next((s for s in sentences(article.text) if answer in s), article.text)
    return Draft(article.title, sentence, answer, kind_of(answer), row["question"])


def answered(generator: Generator, asked: Sequence[tuple[str, str]]) -> list[str]:
    """The greedy answer to each (page, question)."""
    texts = [f"{before(page)}\nQuestion: {question}\nAnswer:" for page, question in asked]
    return [first_line(text) for text in completed(generator, texts, [0] * len(texts), ANSWER_TOKENS, 0.0)]


def before(page: str) -> str:
    return f"{EXAMPLES}Text: {' '.join(page.split()[:MOST_WORDS])}"


def completed(
    generator: Generator, texts: Sequence[str], seeds: Sequence[int], tokens: int, temperature: float
) -> list[str]:
    """What the model writes on, `tokens` at most."""
    contexts = [generator.chat.plain(text) for text in texts]
    found = generator.generate(contexts, seeds, [tokens] * len(contexts), temperature)
    return [generator.chat.decode(list(one.ids)) for one in found]


def first_line(text: str) -> str:
    return text.split("\n")[0].strip().rstrip(".")


def batched(items: Sequence, what: str) -> Iterator[Sequence]:
    """`BATCH` at a time, saying how far it is."""
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]
        done = min(first + BATCH, len(items))
        terminal.say(f"{what}: {done} of {len(items)}", "own_reading", part=what, done=done, of=len(items))


def kept(file: Path) -> list[dict]:
    return [row for _, row in read_jsonl(file)] if file.is_file() else []
