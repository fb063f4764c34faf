"""The model's own questions about articles: answers in a text, the request, the checks, two hops."""

import json
import random
from dataclasses import replace

import pytest
from helpers import Scripted
from made_up_prose import ARTICLES, BIRTHPLACE, BORN, BUILDER, CHEMIST, OPENED, PEOPLE, SOUND, TEXTS

from asl_min.corpus import write_jsonl
from asl_min.real.checks import FAULTS, fault_of, gives_back, query_of
from asl_min.real.drafts import EXAMPLES, Draft, answer_back, drafts, write_questions
from asl_min.real.spans import Span, in_other_words, near_miss, overlap, sentences, spans
from asl_min.real.two_hops import joined, noun_phrase
from asl_min.real.write_questions import checked, drop_half_line, read_drafts, report
from asl_min.run.errors import InputError
from asl_min.search.bm25 import Bm25Search

TOOL = Bm25Search(ARTICLES, 1)


def found(sentence: str, *titles: str) -> list[tuple[str, str]]:
    return [(span.text, span.kind) for span in spans(sentence, frozenset(titles))]


def test_spans_are_dates_years_numbers_names_and_titles():
    text = "Born on 7 November 1867, Ada King of Hull sold 2.5 million lamps from 1890 to May 3, 1901."
    assert found(text, "lamps") == [
        ("7 November 1867", "date"),
        ("May 3, 1901", "date"),
        ("1890", "year"),
        ("2.5 million", "number"),
        ("Ada King of Hull", "name"),
        ("lamps", "term"),
    ]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Similarly, it fell.", []),  # a single word that opens the sentence
        ("The Tower of Oster fell.", [("Tower of Oster", "name")]),
        ("It fell in 168 BC to Alexander's heirs.", [("168 BC", "year"), ("Alexander", "name")]),
        ("It lasted from 1990–2000.", []),
        ("It is the Winston-Salem of J. S. Bach.", [("Winston-Salem of J. S. Bach", "name")]),
    ],
)
def test_spans_at_their_edges(sentence, expected):
    assert found(sentence) == expected


def test_sentences_keep_initials_and_titles_together():
    assert sentences("J. S. Bach met Dr. Vail in 168 BC. They left. Then 3 came.") == [
        "J. S. Bach met Dr. Vail in 168 BC.",
        "They left.",
        "Then 3 came.",
    ]


@pytest.mark.parametrize("span", [Span("7 November 1867", "date"), Span("1911", "year"), Span("1,234", "number")])
def test_near_miss_is_another_value_of_the_same_form(span):
    for seed in range(30):
        near = near_miss(span, random.Random(seed))
        assert not overlap(near, span.text) and [spans(near)[0].kind, len(near)] == [span.kind, len(span.text)]


def test_other_words_keep_the_meaning():
    rng = random.Random(0)
    assert {in_other_words(Span("7 November 1867", "date"), rng) for _ in range(20)} == {
        "November 7, 1867",
        "7 Nov 1867",
    }
    assert (
        in_other_words(Span("1,234", "number"), rng) == "1234" and in_other_words(Span("3", "number"), rng) == "three"
    )
    assert all("Port Ames" in in_other_words(Span("Port Ames", "name"), rng).title() for _ in range(9))


def test_overlap_is_by_whole_words():
    assert overlap("the Ilde", "Ilde") and overlap("4.5 million", "4.5 million people") and not overlap("Ild", "Ilde")


def test_drafts_hold_their_answer_and_are_drawn_by_the_seed():
    whole = [list(drafts(ARTICLES, 2, seed)) for seed in (0, 0, 1)]
    assert whole[0] == whole[1] != whole[2] and len(whole[0]) == 10
    for draft in whole[0]:
        assert draft.answer in draft.sentence and draft.sentence in TEXTS[draft.title]


@pytest.mark.parametrize("draft", SOUND)
def test_sound_questions_pass(draft):
    assert fault_of(draft, TEXTS[draft.title], TOOL) is None


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        ("When was the Varn Bridge opened", "form"),
        ("Answer: When was the Varn Bridge opened?", "form"),
        ("When was the Varn Bridge opened? It was early.", "form"),
        ("Who opened the Varn Bridge?", "kind"),
        ("When in 1912 was the Varn Bridge opened?", "answer in the question"),
        ("When did it happen to all?", "subject"),
        ("When was the Varn Bridge of Castor opened?", "not on the page"),
        ("When were the 12 arches of the Varn Bridge opened?", "not on the page"),
    ],
)
def test_fault_of_a_question(question, fault):
    assert fault in FAULTS and fault_of(replace(OPENED, question=question), TEXTS["Varn Bridge"], TOOL) == fault


def test_article_that_is_the_answer_must_be_found_first_by_the_words_of_the_question():
    assert query_of(CHEMIST.question) == "Hestian chemist found loran"
    vague = replace(CHEMIST, question="Which person was in the gas lamps?")
    assert fault_of(vague, TEXTS["Mara Tolen"], TOOL) == "subject"


def test_answer_is_given_back_in_more_words_or_in_fewer():
    assert gives_back("In 1912.", "1912") and gives_back("Tolen", "Mara Tolen")
    assert not gives_back("", "1912") and not gives_back("1913", "1912")


class Recording(Scripted):
    def generate(self, contexts, *rest, **more):
        self.contexts = contexts
        return super().generate(contexts, *rest, **more)


def test_model_is_asked_in_its_own_template_and_outside_text_stays_text(chat):
    sampler = Recording(chat, write=lambda text, seed: "Who <think> built it?<|end|>")
    draft = replace(BUILDER, sentence="It was built<|end|> by Mara Tolen.")
    assert write_questions(chat, sampler, [draft, BORN]) == ["Who <think> built it?"] * 2
    first = sampler.seen[0][0]
    assert first.startswith("<|system|>Write one short question")
    assert first.endswith("by Mara Tolen.\nAnswer: Mara Tolen<|end|><|assistant|>")
    assert first.count("<|assistant|>") == 1 + len(EXAMPLES)
    ends = sampler.contexts[0].count(chat.tokenizer.eos_token_id)
    assert ends == 2 + 2 * len(EXAMPLES)  # one after each message, none in the sentence
    assert answer_back(chat, Scripted(chat, write=lambda text, seed: "Mara Tolen<|end|>"), [BUILDER]) == ["Mara Tolen"]


def test_checked_drafts_say_which_check_failed(chat):
    questions = {"Mara Tolen": BUILDER.question, "1912": "When was it?", "1871": BORN.question}

    def write(text: str, seed: int) -> str:
        message = text.rsplit("<|user|>", 1)[1].removesuffix("<|end|><|assistant|>")
        last = message.rsplit(": ", 1)[1]
        return (questions[last] if "Answer: " in message else "Mara Tolen") + "<|end|>"

    batch = [replace(draft, question="") for draft in (BUILDER, OPENED, BORN)]
    found = checked(batch, chat, Scripted(chat, write=write), TEXTS, TOOL)
    assert [draft.fault for draft in found] == [None, "form", "not given back"]
    assert report(found) == {"passed": 0.3333, "form": 0.3333, "not given back": 0.3333} | dict.fromkeys(FAULTS[1:5], 0)


def test_write_questions_goes_on_after_half_a_row(script, base, tmp_path):
    corpus, out = tmp_path / "corpus.jsonl", tmp_path / "questions.jsonl"
    write_jsonl(corpus, [{"id": a.id, "contents": a.contents} for a in ARTICLES])
    words = ("--base", base, "--corpus", corpus, "--out", out, "--drafts", 4)
    assert script("asl_min.real.write_questions", *words) == 0
    whole = out.read_text()
    assert len(read_drafts(out)) == 4 and {d.fault for d in read_drafts(out)} <= {None, *FAULTS}
    out.write_text(whole[: whole.index("\n", whole.index("\n") + 1) + 30])  # two rows and a piece
    assert script("asl_min.real.write_questions", *words) == 0
    assert out.read_text() == whole


def test_rows_that_are_no_drafts_are_refused(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"title": "x"}) + "\n")
    with pytest.raises(InputError, match=r"questions.jsonl:1: not a draft"):
        read_drafts(file)
    drop_half_line(file)
    assert file.read_text().endswith("}\n")


@pytest.mark.parametrize(
    ("question", "phrase"),
    [
        ("Who wrote T?", "the one who wrote T"),
        ("What is the capital of T?", "the capital of T"),
        ("Which river crosses T?", "the river that crosses T"),
        ("Which city is the capital of T?", "the city that is the capital of T"),
        ("Where was T born?", "the place where T was born"),
        ("In which city was T born?", "the city in which T was born"),
        ("Who did T marry?", None),
        ("What was T known for?", None),
        ("Which gas did T find?", None),
        ("What country is T in?", None),
    ],
)
def test_noun_phrase_of_a_question(question, phrase):
    assert noun_phrase(question, "T") == phrase


def test_two_hops_are_joined_where_the_first_answer_is_the_second_article():
    assert joined(BUILDER, BIRTHPLACE) == "In which city was the one who built the Varn Bridge born?"
    assert joined(BIRTHPLACE, PEOPLE) == "How many people live in the city in which Mara Tolen was born?"
    assert joined(BUILDER, PEOPLE) is None and joined(OPENED, BORN) is None
    assert joined(BUILDER, CHEMIST) is None  # which does not name its article


def test_draft_has_a_row_that_reads_back():
    assert Draft(**BUILDER.record()) == BUILDER
