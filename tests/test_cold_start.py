"""Demonstrations on prose, laid out as a rollout lays them out, and the adapter that imitates them."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import Scripted
from made_up_prose import ARTICLES, BIRTHPLACE, BORN, BUILDER, CHEMIST, OPENED, SOUND
from transformers import LlamaConfig, LlamaForCausalLM

from asl_min import protocol, roles
from asl_min.chat import Chat
from asl_min.corpus import write_jsonl
from asl_min.episode import FinishReason, Request
from asl_min.real import cold_start, own_reading
from asl_min.real.people import text_hash
from asl_min.real.prose_teacher import TOP_K, ProseTeacher, Query, conversation, drawn
from asl_min.rollout import Limits, Rollout
from asl_min.sampling.sampler import Completion, Finish
from asl_min.search.bm25 import Bm25Search
from asl_min.world.tiny.teacher import Demonstration, NotFound
from asl_min.world.tiny.train_base import VERDICT_WEIGHT, encode, loss_of

MANY = 600


def teacher(seed: int = 0) -> ProseTeacher:
    return ProseTeacher(ARTICLES, SOUND, random.Random(seed))


@pytest.fixture(scope="module")
def shown() -> list[Demonstration]:
    player = teacher()
    return [drawn(player)[0] for _ in range(MANY)]


@pytest.fixture(scope="module")
def llama(tokenizer, tmp_path_factory) -> str:
    """A folder with a very small random Llama of three layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), intermediate_size=64, tie_word_embeddings=True, **sizes)
    config.pad_token_id, config.eos_token_id, config.bos_token_id = 0, 1, None
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_all_roles_and_both_numbers_of_hops_are_shown(shown):
    prompts = Counter(d.prompt for d in shown)
    assert set(prompts) == {
        "policy",
        "judge",
        "task_from_topic",
        "task_by_hops",
        "task_from_question",
        "task_from_result",
    }
    assert {d.fields["hops"] for d in shown if d.prompt == "task_by_hops"} == {"1", "2"}
    assert {d.fields["way"] for d in shown if "way" in d.fields} == {"width", "depth"}


def test_demonstration_is_what_a_rollout_of_its_turns_records(shown, chat):
    limits = Limits(turns=6, turn_tokens=400, episode_tokens=5000)
    for demonstration in shown[:20]:
        texts = [text for text, _ in demonstration.turns]
        play = Rollout(Scripted(chat, *texts), chat, Bm25Search(ARTICLES, TOP_K), limits)
        [episode] = play([Request(demonstration.prompt, demonstration.fields, 0)], 1.0)
        sample = encode(demonstration, chat)
        assert list(episode.ids) == sample.ids.tolist() and list(episode.mask) == (sample.weights > 0).tolist()
        assert episode.finish_reason is FinishReason.ANSWER
        if demonstration.prompt.startswith("task"):
            assert roles.task_of(episode).well_formed


def test_answers_stand_in_a_page_read_and_not_in_the_question(shown):
    for demonstration in shown:
        pages = " ".join(response for _, response in demonstration.turns if response)
        final, answer = demonstration.turns[-1][0], protocol.answer(demonstration.turns[-1][0])
        if demonstration.prompt != "judge":
            question = protocol.question(final) or demonstration.fields["question"]
            assert answer in pages and answer.lower() not in question.lower()
        assert protocol.opens_with_think(final) and len(demonstration.turns) >= 2


def test_verdicts_are_balanced_and_true(shown):
    judged = [d for d in shown if d.prompt == "judge"]
    verdicts = [protocol.verdict(d.turns[-1][0]) for d in judged]
    assert 0.35 < sum(verdicts) / len(verdicts) < 0.65
    for demonstration, verdict in zip(judged, verdicts, strict=True):
        found, candidate = protocol.thought(demonstration.turns[-1][0]).rsplit(" ; answer: ", 1)
        question, right = found.split("\nAnswer: ")
        assert (question, candidate) == (demonstration.fields["question"], demonstration.fields["answer"])
        assert (right.lower() in candidate.lower()) == verdict


def test_two_hops_search_for_the_answer_of_the_first():
    query = next(q for q in teacher().double if q.hops == (BUILDER, BIRTHPLACE))
    found = teacher().solve(query)
    calls = [protocol.tool_call(text) for text, _ in found.turns[:-1]]
    assert calls[-1].queries == ("Mara Tolen",)
    assert found.turns[-2][0].startswith("<think>Mara Tolen</think>")
    question = found.fields["question"]
    assert found.turns[-1][0] == f"<think>{question}\nAnswer: Port Ames</think><answer>Port Ames</answer>"


def test_search_by_words_in_vain_is_followed_by_one_by_the_title():
    player = ProseTeacher(ARTICLES, SOUND, random.Random(0))
    player.tool = Bm25Search(ARTICLES, 1)
    vain = next(s for s in range(99) if random.Random(s).random() < 0.4)
    player.rng = random.Random(vain)
    question = "When did they say that the tower gas lamps and people of the Varn Bridge were there since?"
    turns = player.find("search", replace(OPENED, question=question))
    assert [protocol.tool_call(text).queries[0] for text, _ in turns][-1] == "Varn Bridge" and len(turns) == 2
    assert turns[1][0].startswith("<think>not found: Varn Bridge</think>")
    with pytest.raises(NotFound):
        player.find("search", replace(CHEMIST, question="Which gas tower is on the Ilde?"))  # its title cannot be known


def test_wrong_answers_are_of_the_kind_of_the_right_one():
    player = teacher()
    for query in player.single:
        for _ in range(10):
            wrong = player.wrong(query)
            assert wrong != query.answer.text and wrong not in query.question
    years = {player.wrong(Query(BORN.question, (BORN,))) for _ in range(30)}
    assert all(year.isdigit() and len(year) == 4 for year in years) and len(years) > 3


def test_related_tasks_follow_names_of_the_page_or_the_same_way():
    player = teacher()
    one, two = (next(q for q in player.single if q.hops == (BUILDER,)), player.double[0])
    assert {way for way, q in player.related(one) if q.hops[0].title == "Varn Bridge"} == {"depth"}
    assert {q.hops[0].title for way, q in player.related(one) if way == "width"} == {"Mara Tolen"}
    assert player.direction(one, two) == "harder" and player.direction(two, one) == "easier"


def test_same_seed_shows_the_same():
    one, other = teacher(3), teacher(3)
    assert [drawn(one) for _ in range(20)] == [drawn(other) for _ in range(20)]


def test_verdict_weighs_where_a_tag_is_several_tokens(tokenizer):
    """As in a tokenizer that does not know the protocol's tags."""
    spelt = Chat(tokenizer, "tiny")
    demonstration = Demonstration(
        "judge", {"question": "q", "answer": "a"}, (("<answer>conclusion: wrong</answer>", None),)
    )
    alone = encode(demonstration, spelt)
    assert spelt.decode(alone.ids[alone.weights == VERDICT_WEIGHT].tolist()).strip() in "wrong"
    ids = spelt.plain("</answer>")
    assert len(ids) > 1
    spelt.tokenizer = partial(tokenizer, split_special_tokens=True)
    weighed = encode(demonstration, spelt)
    place = weighed.weights.tolist().index(VERDICT_WEIGHT)
    assert weighed.ids[place + 1 :].tolist() == ids


@pytest.fixture
def agreeing(monkeypatch):
    """A model whose own answers are those of the rules."""
    monkeypatch.setattr(cold_start, "own_answers", lambda generator, drafts, *_: {d.question: d.answer for d in drafts})


def run(script, llama: str, folder, out, steps: int = 4) -> dict:
    corpus = folder / "corpus.jsonl"
    write_jsonl(corpus, [{"id": a.id, "contents": a.contents} for a in ARTICLES])
    words = ("--base", llama, "--corpus", corpus, "--out", out, "--steps", steps)
    assert script("asl_min.real.cold_start", *words) == 0
    return {name: (out / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json")}


def test_adapter_is_trained_and_goes_on_where_it_was_killed(script, llama, tmp_path, monkeypatch, agreeing):
    monkeypatch.setattr(cold_start, "SAVE_EVERY", 2)
    monkeypatch.setattr(cold_start, "FIRST_LAYER", 1)
    whole = run(script, llama, tmp_path, tmp_path / "whole")
    assert json.loads(whole["adapter_config.json"])["layers_to_transform"] == [1, 2]
    assert sorted(f.name for f in (tmp_path / "whole").iterdir()) == sorted(whole)
    losses = []

    def killed(model, batch):
        if len(losses) == 3:
            raise KeyboardInterrupt
        losses.append(loss_of(model, batch))
        return losses[-1]

    with monkeypatch.context() as patch:
        patch.setattr(cold_start, "loss_of", killed)
        with pytest.raises(AssertionError):
            run(script, llama, tmp_path, tmp_path / "parts")
    assert (tmp_path / "parts" / cold_start.STATE).is_file() and len(losses) == 3
    assert run(script, llama, tmp_path, tmp_path / "parts") == whole


def test_only_what_the_model_answers_alike_is_shown(script, llama, tmp_path, monkeypatch, capsys):
    own = {BUILDER.question: "It was Mara Tolen", OPENED.question: "1921", BORN.question: ""}
    assert own_reading.agreed([BUILDER, OPENED, BORN], own) == [BUILDER]
    monkeypatch.setattr(cold_start, "own_answers", lambda generator, drafts, *_: {d.question: "?" for d in drafts})
    with pytest.raises(AssertionError):
        run(script, llama, tmp_path, tmp_path / "out")
    assert "answers none of" in capsys.readouterr().err


@pytest.fixture
def says(tokenizer):
    """A model that writes what the test gives it: by what a context ends with, with what was asked of it."""
    chat, asked, texts = Chat(tokenizer, "tiny"), [], {}

    class Written:
        def __init__(self):
            self.chat = chat

        def generate(self, contexts, seeds, max_new, temperature):
            read = [chat.decode(list(context)) for context in contexts]
            asked.extend((text, temperature) for text in read)
            found = [next(said for end, said in texts.items() if text.endswith(end)) for text in read]
            return [Completion(tuple(ids := chat.plain(said)), (0.0,) * len(ids), Finish.LENGTH) for said in found]

    return Written(), asked, texts


LEADS = {article.title: article.text for article in ARTICLES}


def test_own_answers_are_greedy_ones_after_the_examples_and_kept(says, tmp_path):
    (generator, asked, texts), file = says, tmp_path / "own.jsonl"
    texts |= {"Answer:": " Paris.\nQuestion: more"}
    found = own_reading.own_answers(generator, [BUILDER, OPENED], LEADS, file)
    assert found == {BUILDER.question: "Paris", OPENED.question: "Paris"}
    ends = f"Text: {LEADS['Varn Bridge']}\nQuestion: Who built the Varn Bridge?\nAnswer:"
    assert asked[0][0].endswith(ends) and asked[0][0].startswith("Text: The Rhine") and asked[0][1] == 0
    found = own_reading.own_answers(generator, [BUILDER, OPENED, BORN], LEADS, file)
    assert len(asked) == 3 and set(found) == {BUILDER.question, OPENED.question, BORN.question}


def test_own_questions_are_those_that_pass_the_checks_and_are_answered_alike(says, tmp_path, monkeypatch):
    (generator, asked, texts), file, tool = says, tmp_path / "own.jsonl", Bm25Search(ARTICLES, 1)
    monkeypatch.setattr(own_reading, "FIRST_WORDS", ["Who"])
    again = dict.fromkeys(("built the Varn Bridge", "was born in Port Ames", "lives in Port Ames"), " Mara Tolen")
    texts |= {f"{question}?\nAnswer:": said for question, said in again.items()}
    pages = {
        "Varn Bridge": " built the Varn Bridge?\nAnswer: Mara Tolen\n",
        "Mara Tolen": " was born in Port Ames?\nAnswer: Hestian",  # answered otherwise when asked again
        "Port Ames": " lives in Port Ames?\nAnswer: Nobody",  # not on the page
        "Oster": " knows?",  # no answer
        "Loran (gas)": " is Loran?\nAnswer: Loran",  # in the question
    }
    texts |= {f"{LEADS[title]}\nQuestion: Who": said for title, said in pages.items()}
    [found] = own_reading.own_questions(generator, ARTICLES, tool, file)
    assert (found.title, found.question, found.answer) == ("Varn Bridge", "Who built the Varn Bridge?", "Mara Tolen")
    assert found.kind == "name" and found.sentence == "It was opened in 1912 and was built by Mara Tolen."
    assert [t for _, t in asked] == [own_reading.TEMPERATURE] * 5 + [0, 0]
    assert own_reading.own_questions(generator, ARTICLES, tool, file) == [found] and len(asked) == 7
    monkeypatch.setattr(own_reading, "fault_of", lambda *_: "subject")
    assert own_reading.own_questions(generator, ARTICLES, tool, file) == []


def test_no_evaluated_question_is_trained_on(script, llama, tmp_path, monkeypatch, capsys):
    corpus = tmp_path / "corpus.jsonl"
    write_jsonl(corpus, [{"id": a.id, "contents": a.contents} for a in ARTICLES])
    words = ("--base", llama, "--corpus", corpus, "--out", tmp_path / "out", "--dry-run")
    assert script("asl_min.real.cold_start", *words) == 0
    before = int(re.search(r"(\d+) questions", capsys.readouterr().out)[1])
    first = cold_start.sound_questions(ARTICLES, Bm25Search(ARTICLES, 1), cold_start.SEED)[0]
    asked = frozenset({text_hash(first.question)})
    monkeypatch.setattr(cold_start, "asked_by_hash", lambda: asked)
    assert script("asl_min.real.cold_start", *words) == 0
    assert int(re.search(r"(\d+) questions", capsys.readouterr().out)[1]) == before - 1


def test_no_article_of_the_evaluation_is_asked_about(monkeypatch):
    titles = {draft.title for draft in cold_start.rule_questions(ARTICLES)}
    assert len(titles) > 1
    monkeypatch.setattr(cold_start, "evaluated_titles", lambda: frozenset({min(titles)}))
    assert {draft.title for draft in cold_start.rule_questions(ARTICLES)} == titles - {min(titles)}


def test_candidates_in_other_words_are_as_often_wrong_as_right():
    player = teacher()
    found = [player.candidate(player.single[0]) for _ in range(MANY)]
    worded = [correct for text, correct in found if text.startswith(("It is", "The answer is")) or "of course" in text]
    assert 0.35 < sum(worded) / len(worded) < 0.65 and len(worded) > 50


def test_no_sound_question_is_an_error(script, llama, tmp_path, capsys):
    corpus = tmp_path / "corpus.jsonl"
    write_jsonl(corpus, [{"id": "0", "contents": '"Oster"\nThere is nothing to be asked.'}])
    words = ("--base", llama, "--corpus", corpus, "--out", tmp_path / "out")
    assert script("asl_min.real.cold_start", *words) == 2
    assert "corpus.jsonl: no question can be made" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_follow_ups_ask_more_about_the_page_last_read(chat):
    """Each is solved or judged from the same page without another search, and sees what came before it."""
    player = teacher()
    rows = [row for row in (conversation(player, 4) for _ in range(MANY)) if len(row) > 1]
    assert {len(row) for row in rows} <= {2, 3, 4, 5} and {d.prompt for row in rows for d in row} == {"policy", "judge"}
    for first, *more in rows:
        page = first.turns[-2][1].split("\n")[1]
        read = [protocol.thought(d.turns[0][0]).split(" ; answer: ")[0].split("\nAnswer: ") for d in more]
        assert [question for question, _ in read] == [d.fields["question"] for d in more]
        assert all(answer in page for _, answer in read) and all(len(d.turns) == 1 for d in more)
    parts = [encode(d, chat) for d in rows[0]]
    whole = cold_start.in_one_context(parts, chat)
    between = len(whole.ids) - sum(len(part.ids) for part in parts)
    assert whole.weights.sum() == sum(part.weights.sum() for part in parts) and between
    assert whole.ids[-len(parts[-1].ids) :].tolist() == parts[-1].ids.tolist()


def test_unfinished_start_of_another_model_is_not_gone_on_with(script, llama, tmp_path, monkeypatch, capsys, agreeing):
    monkeypatch.setattr(cold_start, "FIRST_LAYER", 1)
    monkeypatch.setattr(cold_start, "train", lambda *_: pytest.fail("trained"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / cold_start.BEGUN).write_text('{"base": "another"}')
    with pytest.raises(AssertionError):
        run(script, llama, tmp_path, tmp_path / "out")
    assert "holds an unfinished cold start of {'base': 'another'}, not of" in capsys.readouterr().err
