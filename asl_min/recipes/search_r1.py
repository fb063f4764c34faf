"""Gold, openly: Search-R1 (public code: PeterGriffinJin/Search-R1). The policy alone learns, on labelled questions.

    policy    [exact match with a gold answer]

The config sets the steps of the Prompt Generator to 0; the judge has no data. `policy_tasks` questions are drawn by the
seed, the same in every round; 0 takes all.

Source: arXiv 2503.09516; PeterGriffinJin/Search-R1 a14dc3a: verl/utils/reward_score/qa_em.py.
Read: code.
Differs: few labelled questions of the embedded world, where there it is NQ and HotpotQA; GRPO.
"""

from collections.abc import Sequence
from pathlib import Path

from asl_min import recipes
from asl_min.episode import Task
from asl_min.run.errors import InputError


class Recipe(recipes.Recipe):
    follows_up = False

    def check(self) -> None:
        if not self.config.labelled_questions:
            raise InputError("key 'labelled_questions' is None, but the recipe 'search_r1' uses it")

    def gold_files(self, round_number: int, role: str) -> list[Path]:
        return [self.labelled_questions()] if role == "policy" else []

    def labelled_questions(self) -> Path:
        return self.config.path(self.config.labelled_questions)

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> list[str]:
        return list(task.golden_answers)
