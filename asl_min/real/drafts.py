"""Questions that the model writes itself about sentences of the articles.

A draft is a phrase of a lead section and the sentence that it stands in: the answer is there before the question. The
model, as it was published, is asked in plain words for the question, after examples about things that do not exist. No
labelled question is read.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from asl_min.chat import SLOT, Chat
from asl_min.corpus import Passage
from asl_min.real.spans import Span, overlap, sentences, spans
from asl_min.sampling.sampler import Sampler

MIN_SENTENCE, MAX_SENTENCE = 5, 45
"""Words."""
QUESTION_TOKENS, ANSWER_TOKENS = 40, 24
WRITE = "Write one short question about the title that the sentence answers with the given answer."
EXAMPLES = (
    ("Varn Bridge", "The Varn Bridge was opened in 1912.", "1912", "When was the Varn Bridge opened?"),
    ("Varn Bridge", "It crosses the Ilde near Oster.", "the Ilde", "Which river does the Varn Bridge cross?"),
    ("Mara Tolen", "She was born in Port Ames in 1871.", "Port Ames", "Where was Mara Tolen born?"),
    ("Mara Tolen", "Mara Tolen was a chemist who found loran.", "Mara Tolen", "Which chemist found loran?"),
    ("Quenland", "About 4.5 million people live there.", "4.5 million", "How many people live in Quenland?"),
    ("Quenland", "Quenland is a country in the north of Hestia.", "Hestia", "On which continent is Quenland?"),
    ("The Salt Garden", "The Salt Garden is a novel by Edda Brune.", "Edda Brune", "Who wrote The Salt Garden?"),
    ("Loran", "Loran is a gas that is mostly used in lamps.", "lamps", "What is loran mostly used in?"),
)
ANSWER = "Answer the question with the few words of the sentence that answer it."


@dataclass(frozen=True)
class Draft:
    """An answer in a sentence of an article, and the question that the model wrote for it. `fault`: the check that it
    failed; None if it passed all."""

    title: str
    sentence: str
    answer: str
    kind: str
    question: str = ""
    fault: str | None = None

    @property
    def span(self) -> Span:
        return Span(self.answer, self.kind)

    def record(self) -> dict:
        return asdict(self)


def bare(title: str) -> str:
    """A title without what tells it from others: "Mercury (planet)" -> "Mercury"."""
    return re.sub(r" \([^)]*\)$", "", title)


def drafts(articles: Sequence[Passage], per_article: int, seed: int) -> Iterator[Draft]:
    """Up to so many drafts an article, without questions, articles in random order. In one article of `per_article` the
    article itself is one of the answers."""
    rng, titles = random.Random(seed), frozenset(bare(a.title).lower() for a in articles)
    for article in rng.sample(list(articles), len(articles)):
        known = [s for s in sentences(article.text) if MIN_SENTENCE <= len(s.split()) <= MAX_SENTENCE]
        title = bare(article.title)
        asked = [(s, span) for s in known for span in spans(s, titles) if not overlap(span.text, title)]
        chosen = rng.sample(asked, min(per_article, len(asked)))
        if known and title in known[0] and rng.random() < 1 / per_article:
            chosen[-1:] = [(known[0], Span(title, "name"))]
        for sentence, span in chosen:
            yield Draft(article.title, sentence, span.text, span.kind)


def write_prompt(draft: Draft) -> str:
    return f"Title: {bare(draft.title)}\nSentence: {draft.sentence}\nAnswer: {draft.answer}"


def answer_prompt(draft: Draft) -> str:
    return f"Title: {bare(draft.title)}\nSentence: {draft.sentence}\nQuestion: {draft.question}"


def examples(prompt: Callable[[Draft], str], reply: Callable[[Draft], str]) -> list[tuple[str, str]]:
    shown = [Draft(title, text, answer, "", question) for title, text, answer, question in EXAMPLES]
    return [(prompt(draft), reply(draft)) for draft in shown]


def ask_plainly(
    chat: Chat, sampler: Sampler, system: str, shown: list[tuple[str, str]], asked: Sequence[str], max_new: int
) -> list[str]:
    """The model's greedy replies to messages, after examples of (message, reply), all in its own chat template."""
    talk = [{"role": "system", "content": system}]
    for message, reply in shown:
        talk += [{"role": "user", "content": message}, {"role": "assistant", "content": reply}]
    talk.append({"role": "user", "content": SLOT})
    frame = chat.tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    head, tail = (chat.tokenizer(part, add_special_tokens=False)["input_ids"] for part in frame.split(SLOT))
    contexts = [head + chat.plain(message) + tail for message in asked]
    done = sampler.generate(contexts, [0] * len(asked), [max_new] * len(asked), temperature=0.0)
    ends = chat.eos_ids
    return [chat.decode([i for i in completion.ids if i not in ends]).strip() for completion in done]


def write_questions(chat: Chat, sampler: Sampler, asked: Sequence[Draft]) -> list[str]:
    shown = examples(write_prompt, lambda draft: draft.question)
    return ask_plainly(chat, sampler, WRITE, shown, [write_prompt(draft) for draft in asked], QUESTION_TOKENS)


def answer_back(chat: Chat, sampler: Sampler, asked: Sequence[Draft]) -> list[str]:
    shown = examples(answer_prompt, lambda draft: draft.answer)
    return ask_plainly(chat, sampler, ANSWER, shown, [answer_prompt(draft) for draft in asked], ANSWER_TOKENS)
