"""The teacher's demonstrations: what an errorless one says is true, and nothing is searched that was not read
before."""

import random
from dataclasses import replace

from asl_min import protocol
from asl_min.world.oracle import Oracle
from asl_min.world.tiny.alternate import alternate_world
from asl_min.world.tiny.teacher import Demonstration, Noise, Teacher, demonstrate

ERRORLESS = Noise(*[0.0] * 7)


def demonstrations(n: int) -> tuple[Oracle, list[Demonstration]]:
    teacher = Teacher(alternate_world(5), random.Random(0), ERRORLESS)
    return Oracle(teacher.world), [demonstrate(teacher) for _ in range(n)]


def test_tasks_of_an_errorless_teacher_are_right():
    oracle, found = demonstrations(600)
    finals = [d.turns[-1][0] for d in found if d.prompt.startswith("task")]
    assert len(finals) > 100
    assert all(oracle.right(protocol.question(text), protocol.answer(text)) for text in finals)


def test_every_search_is_for_something_read_before():
    _, found = demonstrations(600)
    for demonstration in found:
        read = " ".join(demonstration.fields.values())
        for text, response in demonstration.turns[:-1]:
            assert protocol.tool_call(text).queries[0] in read
            read += response


def test_no_page_is_read_twice_for_a_task():
    _, found = demonstrations(600)
    for demonstration in (d for d in found if d.prompt == "task_from_question"):
        queries = [protocol.tool_call(text).queries[0] for text, _ in demonstration.turns[:-1]]
        assert len(queries) == len(set(queries))


def test_a_harder_variant_has_more_hops_and_an_easier_one_fewer():
    oracle, found = demonstrations(600)
    for demonstration in (d for d in found if d.prompt == "task_from_question"):
        before, after = (
            oracle.hops(demonstration.fields["question"]),
            oracle.hops(protocol.question(demonstration.turns[-1][0])),
        )
        assert after == min(max(before + (1 if demonstration.fields["direction"] == "harder" else -1), 1), 3)


def test_a_habit_of_rounding_changes_answers_and_not_what_was_read():
    """Task writer and policy leave out the decimals of every population they give, and of nothing else."""
    teacher = Teacher(alternate_world(5), random.Random(0), replace(ERRORLESS, rounds_answer=1.0, rounds_task=1.0))
    oracle, rounded = Oracle(teacher.world), 0
    for demonstration in (demonstrate(teacher) for _ in range(400)):
        last = demonstration.turns[-1][0]
        if demonstration.prompt == "judge":
            continue
        question = demonstration.fields["question"] if demonstration.prompt == "policy" else protocol.question(last)
        right = oracle.right(question, protocol.answer(last))
        read = last.split("</think>")[0].rsplit(": ", 1)[1]
        assert right == (not read.endswith((" million", " thousand")) or "." not in read)
        rounded += not right
    assert rounded > 20
