"""Gold, openly: ASL in which, from round `oracle_from_round` on, the embedded world's oracle gives the verdicts that
reward Prompt Generator and policy. The Generative Reward Model is trained as in the mode asl_hybrid."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asl_min import recipes
from asl_min.recipes import asl_hybrid
from asl_min.run.errors import InputError
from asl_min.run.gold import FACTS
from asl_min.world.oracle import Oracle

if TYPE_CHECKING:
    from asl_min.phase import Phase


class Recipe(asl_hybrid.Recipe):
    def check(self) -> None:
        super().check()
        if not self.config.oracle:
            raise InputError(f"key 'oracle' is {self.config.oracle!r}, but the recipe {self.config.recipe!r} uses it")

    def _asks_oracle(self, round_number: int, role: str) -> bool:
        return role != "reward_model" and round_number >= self.config.oracle_from_round > 0

    def gold_files(self, round_number: int, role: str) -> list[Path]:
        return [FACTS] if self._asks_oracle(round_number, role) else super().gold_files(round_number, role)

    def judge(
        self, phase: "Phase", pairs: Sequence[tuple[str, str | None]], *seed_key: object
    ) -> list[recipes.Verdict]:
        if not self._asks_oracle(phase.round, phase.role):
            return super().judge(phase, pairs, *seed_key)
        oracle = Oracle.of(self.config.oracle)
        phase.gold_labels += len({pair for pair in pairs if pair[1]})
        return [oracle.right(question, answer) if answer else None for question, answer in pairs]
