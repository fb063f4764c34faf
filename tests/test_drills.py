"""Drills in comparing: what they say, and which tokens carry loss."""

import random
import re

import numpy as np
import pytest

from asl_min.world.tiny.alternate import alternate_world
from asl_min.world.tiny.drills import LINES, drill
from asl_min.world.tiny.teacher import Teacher
from asl_min.world.tiny.train_base import VERDICT_WEIGHT, encode_drill


@pytest.fixture(scope="module")
def lines() -> list[str]:
    teacher = Teacher(alternate_world(3), random.Random(0))
    return [line for _ in range(30) for line in drill(teacher)]


def test_a_drill_says_correct_where_the_answer_is_what_was_found(lines):
    verdicts = []
    for line in lines:
        found, answer, verdict = re.fullmatch(
            r"<think>.*?: ([^:]*) ; answer: (.*)</think><answer>conclusion: (correct|wrong)</answer>", line
        ).groups()
        assert (found == answer) == (verdict == "correct"), line
        verdicts.append(verdict)
    assert 0.4 < verdicts.count("correct") / len(verdicts) < 0.6


def test_near_misses_are_among_the_wrong_answers(lines):
    pairs = [re.search(r": ([^:]*) ; answer: (.*)</think>.*wrong", line) for line in lines]
    numbers = [(m[1], m[2]) for m in pairs if m and m[1][0].isdigit() and m[2][0].isdigit()]
    assert any(found.split()[1:] == answer.split()[1:] for found, answer in numbers)


def test_of_a_drill_the_verdicts_alone_carry_loss(chat, lines):
    shown = lines[:LINES]
    sample = encode_drill(shown, chat)
    assert chat.decode(sample.ids.tolist()) == "".join(shown)
    assert set(sample.weights.tolist()) == {0.0, VERDICT_WEIGHT}
    places = np.flatnonzero(sample.weights)
    assert len(places) == LINES
    ends = [chat.decode(sample.ids[: place + 1].tolist()) for place in places]
    assert all(end.endswith(("correct", "wrong")) for end in ends)
