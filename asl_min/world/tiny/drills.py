"""Drills: the judge's last turn alone, about one fact that is written there, again and again.

To compare two names token by token is one bit among the hundreds of tokens of a judgment, and a model of this size does
not find it from judgments: after 1,800 steps of them its verdicts are at chance. From drills it does, in 200 steps.
"""

from asl_min.world.tiny.teacher import Teacher, conclude
from asl_min.world.values import near_miss

LINES = 8


def drill(teacher: Teacher) -> list[str]:
    return [line(teacher) for _ in range(LINES)]


def line(teacher: Teacher) -> str:
    """A fact and an answer that is the same string half of the time, else a near miss or another value."""
    rng, name = teacher.rng, teacher.rng.choice(list(teacher.world.entities))
    facts = teacher.world.entities[name].facts
    if not facts:
        return line(teacher)
    relation = rng.choice(list(facts))
    value, right = teacher.shown(name, relation), facts[relation].answers
    candidate = value if rng.random() < 0.5 else teacher.other_value(name, relation, right, elsewhere=0.6)
    near = near_miss(value, rng)
    if candidate != value and near and near not in right and rng.random() < 0.3:
        candidate = near
    return conclude(teacher.thought(name, relation, value), candidate, candidate == value)
