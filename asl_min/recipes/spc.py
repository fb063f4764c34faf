"""SPC, self-play critic: the judge learns to tell right answers from wrong ones that are made to deceive it. No labels.

    deceiver  1 if the judge holds its wrong answer for correct, else -1
    judge     [verdict = whether it is the task's own answer]
    policy    [the judge says correct]

On each task the deceiver, which shares the writer's adapter, answers the question; its answer is wrong if it is not the
task's own. Own and wrong answer together are the judge's data. The writer itself learns nothing: what is rewarded in
phase 1 are the deceiver's episodes, compared over the whole step.

Source: arXiv 2504.19162, abstract and Figure 2; chen-judge/SPC e2d999d has the critic's training on data made before,
not the game.
Read: paper, in part.
Differs: answers are judged, where there they are steps of a solution. The deceiver is not shown the right answer that
it should corrupt, since no base knows such a prompt; a right answer or none earns -1, where there the game takes place
only with a wrong step. The writer gets ASL's topics and its harder / easier prompts. The policy learns from the judge,
where there the critic guides its search at test time. Updates are GRPO's, where there they are offline.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from asl_min import recipes, roles
from asl_min.episode import Episode, Task, Triple

if TYPE_CHECKING:
    from asl_min.phase import Phase


class Recipe(recipes.Recipe):
    def played(
        self, phase: "Phase", tasks: list[Task], episodes: list[Episode], *seed_key: object
    ) -> tuple[list[Task], list[Episode]]:
        """The tasks with two answers, their own and the deceiver's if that is wrong, and what the judge says of each;
        the deceiver's episodes."""
        formed = [i for i, task in enumerate(tasks) if task.well_formed]
        requests = roles.solve_requests([tasks[i].question for i in formed], 1, *seed_key, "deceive")
        tasks, episodes = list(tasks), list(episodes)
        for i, episode in zip(formed, phase.agent.rollout("prompt_generator", requests), strict=True):
            answer, own = roles.answer_of(episode), tasks[i].answer
            wrong = (answer,) if answer and not self.matches(answer, [own]) else ()
            tasks[i], episodes[i] = replace(tasks[i], answers=(own, *wrong)), episode
        pairs = [(tasks[i].question, answer) for i in formed for answer in tasks[i].answers]
        said = iter(self.judge(phase, pairs, *seed_key, "judge"))
        for i in formed:
            tasks[i] = replace(tasks[i], verdicts=tuple(next(said) is True for _ in tasks[i].answers))
        return tasks, episodes

    def is_attempted(self, task: Task) -> bool:
        return False

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [1.0 if task.verdicts[1:] == (True,) else -1.0 for task in tasks]

    def task_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        played = [episode for episode in episodes if episode.request.prompt == "policy"]
        return [played] if played else []

    def label(self, triple: Triple) -> bool:
        return self.matches(triple.answer, [triple.reference])

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> None:
        """None: the judge says what is right."""
        return None
