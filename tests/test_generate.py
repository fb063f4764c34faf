"""Generation: a completion depends on its own context and seed alone, and its log-probabilities are the model's."""

import copy
import random

import numpy as np
import pytest
import torch
from helpers import bigram_model, move, random_model

from asl_min.model import load_backbone
from asl_min.protocol import STOP_STRINGS
from asl_min.sampling import generate
from asl_min.sampling.generate import Generator, sample
from asl_min.sampling.prefix_cache import CacheLayer, PrefixCache
from asl_min.sampling.sampler import Completion, Finish


@pytest.fixture(scope="module")
def generator(model, chat) -> Generator:
    return Generator(model, chat)


@pytest.fixture(scope="module")
def contexts(tokenizer) -> list[list[int]]:
    """Twelve contexts of 3 to 47 tokens, two of which are one the end of the other, and two that are one the start of
    the other."""
    rng = random.Random(0)
    found = [
        [rng.randrange(15, len(tokenizer)) for _ in range(length)] for length in (3, 7, 15, 16, 17, 30, 31, 32, 40, 47)
    ]
    return [*found, found[5][4:], found[8][:9]]


def by_alone(generator, contexts, max_new, temperature) -> list[Completion]:
    return [
        generator.generate([c], [i], [n], temperature)[0]
        for i, (c, n) in enumerate(zip(contexts, max_new, strict=True))
    ]


def assert_same(found: list[Completion], expected: list[Completion]) -> None:
    assert [c.ids for c in found] == [c.ids for c in expected]
    assert [c.finish_reason for c in found] == [c.finish_reason for c in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def count_tokens(monkeypatch) -> list[int]:
    """Grows by the number of tokens a row of every forward pass to come."""
    counts, forward = [], PrefixCache._forward

    def counted(cache, first, ids, *rest, **named):
        counts.append(ids.shape[1])
        return forward(cache, first, ids, *rest, **named)

    monkeypatch.setattr(PrefixCache, "_forward", counted)
    return counts


# --- independence of the batch


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_completion_is_the_same_alone_and_in_a_shuffled_batch(generator, contexts, temperature):
    max_new = [5 + 3 * i for i in range(len(contexts))]
    alone = by_alone(generator, contexts, max_new, temperature)
    order = random.Random(1).sample(range(len(contexts)), len(contexts))
    batch = generator.generate([contexts[i] for i in order], order, [max_new[i] for i in order], temperature)
    assert_same(batch, [alone[i] for i in order])


def test_duplicates_in_a_batch_change_nothing(generator, contexts):
    alone = by_alone(generator, contexts, [20] * len(contexts), 1.0)
    twice = [i for i in range(len(contexts)) for _ in range(3)]
    random.Random(2).shuffle(twice)
    assert_same(
        generator.generate([contexts[i] for i in twice], twice, [20] * len(twice), 1.0), [alone[i] for i in twice]
    )


def test_contexts_that_differ_only_in_padding_ids_are_told_apart(generator, contexts):
    """Batches are padded with id 0, which is also a token: [0, 0, x] is not [x], nor is [x, 0, 0]."""
    three = [contexts[4], [0, 0, *contexts[4]], [*contexts[4], 0, 0]]
    assert_same(generator.generate(three, [0, 1, 2], [12] * 3, 1.0), by_alone(generator, three, [12] * 3, 1.0))


def test_head_of_all_contexts_is_computed_once(generator, contexts, tokenizer, monkeypatch):
    rng = random.Random(2)
    head = [rng.randrange(15, len(tokenizer)) for _ in range(generate.SHARED_TOKENS + 6)]
    asked, max_new = [head + c for c in [*contexts, contexts[0]]], [6] * (len(contexts) + 1)
    alone = by_alone(generator, asked, max_new, 0.0)
    counts = count_tokens(monkeypatch)
    assert_same(generator.generate(asked, list(range(len(asked))), max_new, 0.0), alone)
    assert counts[0] >= len(head) and max(counts[1:]) <= 48  # the longest context has 47 tokens more


def test_head_ends_before_the_last_token_of_the_shortest_context():
    assert generate.common_head([(1, 2, 3, 4), (1, 2, 3), (1, 2, 3, 5)]) == (1, 2)
    assert generate.common_head([(1, 2, 3), (1, 4, 3)]) == (1,)
    assert generate.common_head([(1, 2, 3), (1, 2, 3)]) == generate.common_head([(1,), (2, 3)]) == ()


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(generate, "PAUSE_SHARE", 0)


@pytest.fixture(scope="module")
def short_turns(model, chat) -> Generator:
    """Every fifth token ends the turn, so that turns end of their own accord."""
    eager = copy.copy(chat)
    eager.eos_ids = frozenset(range(0, model.config.vocab_size, 5))
    return Generator(model, eager)


def test_next_turn_is_the_same_from_kept_work_as_from_nothing(short_turns, contexts, tokenizer, monkeypatch, no_pauses):
    """Turns with given tokens between them; two episodes are one and the same, and one drops out on the way."""
    chunks = count_tokens(monkeypatch)
    rng, active = random.Random(3), [contexts[i] for i in (9, 0, 4, 4, 7)]
    seeds, known = [0, 1, 2, 2, 4], [0] * 5
    for turn in range(4):
        fresh = [
            Generator(short_turns.model, short_turns.chat).generate([c], [s], [40], 1.0)[0]
            for c, s in zip(active, seeds, strict=True)
        ]
        chunks.clear()
        found = short_turns.generate(active, seeds, [40] * len(active), 1.0, known)
        assert_same(found, fresh)
        # later turns compute the last sampled token and those given, padded to 16, and not the whole context
        assert chunks[0] == (48 if turn == 0 else 16)
        known = [len(c) + len(f.ids) for c, f in zip(active, found, strict=True)]
        glue = [rng.randrange(15, len(tokenizer)) for _ in range(6)]
        active = [[*c, *f.ids, *glue[: 2 + len(c) % 4]] for c, f in zip(active, found, strict=True)]
        if turn == 1:
            active, seeds, known = active[1:], seeds[1:], known[1:]


def test_long_and_short_responses_after_short_and_long_histories(short_turns, contexts, tokenizer, no_pauses):
    """The new tokens of all episodes are padded to the longest response, behind the longest history too."""
    first = short_turns.generate([contexts[9], contexts[0]], [0, 1], [40, 40], 1.0)
    known = [len(c) + len(f.ids) for c, f in zip((contexts[9], contexts[0]), first, strict=True)]
    rng = random.Random(4)
    response = [rng.randrange(15, len(tokenizer)) for _ in range(90)]
    active = [[*contexts[9], *first[0].ids, 20, 21], [*contexts[0], *first[1].ids, *response]]
    found = short_turns.generate(active, [2, 3], [3, 3], 1.0, known)
    assert_same(found, [short_turns.generate([c], [s], [3], 1.0)[0] for c, s in zip(active, [2, 3], strict=True)])


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_rows_that_wait_for_the_next_call_go_on_where_they_were(generator, contexts, monkeypatch, share):
    """Among others that come anew; the completions are those of each row alone."""
    monkeypatch.setattr(generate, "PAUSE_SHARE", share)
    max_new = [8 + 3 * i for i in range(len(contexts))]
    alone, found, passes = by_alone(generator, contexts, max_new, 1.0), {}, count_tokens(monkeypatch)
    calls, waiting = 0, list(range(6))
    while waiting:
        passes.clear()
        said = generator.generate(
            [contexts[i] for i in waiting], waiting, [max_new[i] for i in waiting], 1.0, [0] * len(waiting)
        )
        found |= {i: c for i, c in zip(waiting, said, strict=True) if c}
        calls, waiting = calls + 1, [i for i, c in zip(waiting, said, strict=True) if not c]
        waiting += range(6, 12) if calls == 1 else ()
    assert calls > 2 and passes[0] == 16  # in the last call one token is read of what went before
    assert_same([found[i] for i in range(12)], alone)


def test_without_known_tokens_every_row_is_finished(generator, contexts, monkeypatch):
    monkeypatch.setattr(generate, "PAUSE_SHARE", 1.0)
    assert all(generator.generate(contexts, range(12), range(1, 13), 1.0))


@pytest.mark.parametrize("dropped_by", ["the end of serving", "a new batch"])
def test_what_is_kept_is_dropped(dropped_by, chat, config, contexts, monkeypatch):
    """At the end of serving, because the weights may then change; by a new batch, because memory must not grow."""
    eager = copy.copy(chat)
    eager.eos_ids = frozenset(range(0, len(chat.tokenizer), 5))
    adapted = move(load_backbone(config, {}), "shared", 1)
    sampler, passes = Generator(adapted, eager), count_tokens(monkeypatch)
    with sampler.serving("shared"):
        (first,) = sampler.generate(contexts[9:10], [0], [40], 1.0)
        assert sampler._kept
        if dropped_by == "a new batch":
            sampler.generate(contexts[:1], [0], [1], 1.0)
    context = [*contexts[9], *first.ids, 20, 21]
    passes.clear()
    sampler.generate([context], [0], [2], 1.0, [len(context) - 2])
    assert passes[0] >= len(context)


def test_serving_samples_with_the_adapter_or_without(chat, config, contexts):
    adapted, plain = move(load_backbone(config, {}), "shared", 1), None
    sampler = Generator(adapted, chat)
    for base in (True, False):
        with sampler.serving("shared", base):
            plain = plain or sampler.generate(contexts, range(12), [20] * 12, 1.0)
            found = sampler.generate(contexts, range(12), [20] * 12, 1.0)
        assert ([c.ids for c in found] == [c.ids for c in plain]) == base
    with adapted.disable_adapter():
        assert sampler.generate(contexts, range(12), [20] * 12, 1.0) == plain


def test_places_are_shared_forked_and_packed_as_the_example_says(model):
    """The one of prefix_cache.py: which sequence is at which place."""
    layers = [CacheLayer() for _ in range(model.config.num_hidden_layers)]
    with torch.inference_mode():
        cache = PrefixCache(model, layers, [(5, 6, 7)] * 2, [0, 0], {}, 3)
        places, logits = cache.prefill()
        assert places.tolist() == [0, 0] and len(logits) == 1 and cache.positions[0] == 3
        places, logits = cache.grow(places, torch.tensor([8, 8]))
        assert places.tolist() == [0, 0] and len(logits) == 1 and cache.positions[0] == 4
        before = cache.keys_values(0)
        places, logits = cache.grow(places, torch.tensor([4, 9]))
        assert places.tolist() == [0, 1] and len(logits) == 2
        four, nine = cache.keys_values(0)[0][0], cache.keys_values(1)[0][0]
        assert torch.equal(four[:, :4], before[0][0]) and torch.equal(nine[:, :4], before[0][0])
        assert four.shape[1] == nine.shape[1] == 5 and not torch.equal(four, nine)
        places, _ = cache.grow(places[1:], torch.tensor([3]))
        assert places.tolist() == [0] and torch.equal(cache.keys_values(0)[0][0][:, :5], nine)


def test_memory_of_earlier_batches_changes_nothing(model, chat, contexts):
    """Its cache is used again: whatever an earlier batch left there, numbers that are none too, is not seen."""
    fresh, used = Generator(model, chat), Generator(model, chat)
    used.generate(contexts[3:], list(range(9)), [30] * 9, 1.0)
    with torch.inference_mode():  # as they are tensors of that mode
        for memory in [memory for layer in used._layers for memory in layer._memory.values()]:
            memory.fill_(float("nan"))
    rows = [*contexts, *contexts]  # more places than before, so that the memory grows too
    assert used.generate(rows, list(range(24)), [25] * 24, 1.0) == fresh.generate(rows, list(range(24)), [25] * 24, 1.0)


def test_same_seed_same_tokens(generator, contexts):
    assert generator.generate(contexts[:1], [7], [30], 1.0) == generator.generate(contexts[:1], [7], [30], 1.0)


def test_other_seed_other_tokens(generator, contexts):
    found = generator.generate(contexts[5:6] * 4, [1, 2, 3, 4], [30] * 4, 1.0)
    assert len({c.ids for c in found}) == 4


def test_larger_budget_continues_the_same_completion(generator, contexts):
    short, long = (generator.generate(contexts[5:6], [3], [n], 1.0)[0] for n in (6, 25))
    assert long.ids[:6] == short.ids and len(long.ids) > 6


def test_no_contexts_no_completions(generator):
    assert generator.generate([], [], [], 1.0) == []


# --- the right distribution


@torch.no_grad()
def plain_logprobs(model, context: list[int], ids: tuple[int, ...], temperature: float) -> list[float]:
    logits = model(torch.tensor([[*context, *ids]]), use_cache=False).logits[0, len(context) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_plain_forward_pass(generator, model, contexts, temperature):
    found = generator.generate(contexts, range(len(contexts)), [30] * len(contexts), temperature)
    for context, completion in zip(contexts, found, strict=True):
        assert completion.logprobs == pytest.approx(
            plain_logprobs(model, context, completion.ids, temperature), abs=1e-4
        )


def test_greedy_logprobs_are_those_of_temperature_one(generator, model, contexts):
    (completion,) = generator.generate(contexts[3:4], [0], [10], 0.0)
    assert completion.logprobs == pytest.approx(plain_logprobs(model, contexts[3], completion.ids, 1.0), abs=1e-4)


@torch.no_grad()
def test_greedy_is_the_argmax_at_every_step(generator, model, contexts):
    for context in contexts[:4]:
        (completion,) = generator.generate([context], [0], [15], 0.0)
        ids = list(context)
        for token in completion.ids:
            assert token == model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item()
            ids.append(token)


def test_sample_draws_tokens_as_often_as_their_probability():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -30.0])
    uniforms = torch.from_numpy(np.random.default_rng(0).random(20_000))
    places = torch.arange(20_000) % 2
    tokens, logprobs = sample(torch.stack([logits.flip(0), logits]), places, uniforms, 0.8)
    tokens, logprobs = tokens[1::2], logprobs[1::2]  # of the second place
    expected = (logits / 0.8).softmax(-1)
    shares = torch.bincount(tokens, minlength=5) / 10_000
    assert torch.allclose(shares, expected, atol=0.015)  # 3 standard errors of a share of 1/2
    assert torch.allclose(logprobs, expected.log()[tokens], atol=1e-5)


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.4999, 1), (0.5001, 3), (1 - 2**-53, 3)])
def test_sample_inverts_the_cumulative_distribution(uniform, token):
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])  # tokens 1 and 3, half each
    uniforms = torch.tensor([uniform], dtype=torch.float64)
    assert sample(logits, torch.tensor([0]), uniforms, 1.0)[0].item() == token


# --- where it stops


@pytest.fixture(scope="module")
def many(generator, contexts) -> list[Completion]:
    """Long completions of the random model, which writes any token sooner or later."""
    return generator.generate(contexts * 5, range(60), [80] * 60, 1.0)


def test_every_end_occurs(many):
    assert {c.finish_reason for c in many} == set(Finish)


def test_end_of_turn_stops_at_its_first_occurrence(many, chat):
    for completion in many:
        places = [i for i, token in enumerate(completion.ids) if token in chat.eos_ids]
        assert places == ([len(completion.ids) - 1] if completion.finish_reason is Finish.EOS else [])


def test_stop_string_stops_at_its_first_occurrence(many, chat):
    for completion in many:
        text = chat.decode(list(completion.ids))
        assert text.endswith(STOP_STRINGS) == (completion.finish_reason is Finish.STOP)
        assert sum(text.count(stop) for stop in STOP_STRINGS) == (completion.finish_reason is Finish.STOP)


def test_length_stops_the_rest(many):
    assert all(len(c.ids) == 80 for c in many if c.finish_reason is Finish.LENGTH)


def test_ids_and_logprobs_are_equally_many(many):
    assert all(len(c.ids) == len(c.logprobs) for c in many)


def test_max_new_holds_for_each_row(generator, contexts):
    found = generator.generate(contexts, range(len(contexts)), range(1, len(contexts) + 1), 1.0)
    lengths = [(len(c.ids), n) for n, c in enumerate(found, start=1) if c.finish_reason is Finish.LENGTH]
    assert len(lengths) > 6 and all(length == n for length, n in lengths)
    assert all(len(c.ids) <= n for n, c in enumerate(found, start=1))


def test_stop_string_spelt_in_several_tokens_stops(chat, tokenizer):
    chain = [tokenizer.convert_tokens_to_ids(ch) for ch in "z</answer>y"]
    (completion,) = Generator(bigram_model(len(tokenizer), chain), chat).generate([chain[:1]], [0], [30], 0.0)
    assert (chat.decode(list(completion.ids)), completion.finish_reason) == ("</answer>", Finish.STOP)


def test_stop_on_the_last_token_allowed_is_a_stop(chat, tokenizer):
    chain = [tokenizer.convert_tokens_to_ids(ch) for ch in "z</answer>y"]
    (completion,) = Generator(bigram_model(len(tokenizer), chain), chat).generate([chain[:1]], [0], [9], 0.0)
    assert (len(completion.ids), completion.finish_reason) == (9, Finish.STOP)


def test_stop_string_begun_in_the_context_does_not_stop(chat, tokenizer):
    chain = [tokenizer.convert_tokens_to_ids(ch) for ch in "</answer>y"]
    (completion,) = Generator(bigram_model(len(tokenizer), chain), chat).generate([chain[:5]], [0], [6], 0.0)
    assert completion.finish_reason is Finish.LENGTH and chat.decode(list(completion.ids)).startswith("wer>y")


def test_model_with_more_ids_than_the_tokenizer_can_write_them(chat, tokenizer):
    """Checkpoints often round the vocabulary up; a sampled id past the tokenizer's end is a token like any other."""
    spare = len(tokenizer) + 3
    start = tokenizer.convert_tokens_to_ids("z")
    generator = Generator(bigram_model(len(tokenizer) + 8, [start, spare, start]), chat)
    (completion,) = generator.generate([[start]], [0], [4], 0.0)
    assert completion.ids == (spare, start, spare, start) and completion.finish_reason is Finish.LENGTH


def test_logits_that_are_not_numbers_do_not_end_the_run(chat, tokenizer):
    broken = random_model(len(tokenizer))
    with torch.no_grad():
        broken.model.norm.weight.fill_(torch.nan)
    (completion,) = Generator(broken, chat).generate([[20, 21]], [0], [5], 1.0)
    assert 1 <= len(completion.ids) <= 5 and all(lp <= 0 for lp in completion.logprobs)
