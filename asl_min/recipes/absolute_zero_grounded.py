"""Absolute Zero in which a task whose answer does not occur verbatim in a tool response of its writer, be it as a part
of a word, counts as malformed: it is not attempted, earns -1 and is not kept.

    task      Absolute Zero's, -1 also if its answer stands in no page that its writer read
    policy    Absolute Zero's

Source: none; a control of this repository.
Read: -
Differs: -
"""

from asl_min.episode import Episode, Task
from asl_min.recipes import absolute_zero


class Recipe(absolute_zero.Recipe):
    def accepts(self, task: Task, episode: Episode) -> bool:
        return any(task.answer in response for response in episode.responses)
