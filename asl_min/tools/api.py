"""A run as a notebook uses it: make or open one, train its rounds, look at what happened, ask it.

Scripts and notebooks share the run's folder: what one has begun the other goes on with.
"""

from pathlib import Path
from typing import Self

from matplotlib.figure import Figure

from asl_min.config import Config, load_config
from asl_min.corpus import read_jsonl
from asl_min.episode import Episode, Task
from asl_min.evaluate import evaluate_round
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.rounds import PHASES, run_rounds
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.run.inputs import prepare
from asl_min.tools import ask
from asl_min.tools.figures import round_panels, side_by_side, step_panels
from asl_min.tools.report import evaluated
from asl_min.tools.summary import summary_of
from asl_min.world.task_quality import read_tasks


class Run:
    """A run folder. Every method but `create` raises `InputError` if the folder holds no run."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._asked: tuple[int, Agent] | None = None

    @classmethod
    def create(cls, folder: str | Path, config: str | Path, **overrides: object) -> Self:
        """Make a run folder from a config file, or open the one that holds the same settings. Raises `InputError` for
        settings, files or models that the run could fail on."""
        prepare(Path(folder), load_config(config, **overrides))
        return cls(folder)

    @property
    def config(self) -> Config:
        return run_dir.read_config(self.folder)

    def train(self) -> dict:
        """Everything that is still to do: rounds, evaluations, report. Returns the summary."""
        with run_dir.lock(self.folder):
            return run_rounds(self.folder)

    def train_round(self, number: int) -> dict:
        """The three phases of a round, from 1, and its evaluation; finished ones are kept. Returns the evaluation's
        results. Raises `InputError` if the round before is not finished."""
        run_dir.check_round(self.config, number)
        with run_dir.lock(self.folder):
            for role in ROLES:
                if not run_dir.is_done(self.folder, number, role):
                    PHASES[role].run_phase(self.folder, number)
            return evaluate_round(self.folder, number)

    def evaluate(self, number: int) -> dict:
        """Results of a round whose phases are finished; 0 is the base."""
        run_dir.check_round(self.config, number, first=0)
        with run_dir.lock(self.folder):
            return evaluate_round(self.folder, number)

    def summary(self) -> dict:
        """What `summary.json` holds: one entry in "rounds" for each evaluated round, the base first."""
        return summary_of(self.folder)

    def figure(self) -> Figure:
        """What was measured round by round, and the reward of every training step; a notebook shows it. Raises
        `InputError` if the base is not evaluated."""
        return side_by_side([*round_panels([evaluated(self.folder)]), *step_panels(self.folder)])

    def tasks(self, number: int) -> list[Task]:
        """The tasks that a round kept."""
        file = run_dir.require(self.folder, number, "prompt_generator") / "tasks.jsonl"
        return read_tasks(file)

    def episodes(self, number: int, role: str) -> list[Episode]:
        """The episodes that a phase recorded: those of its first and of its last step."""
        if role not in ROLES:
            raise InputError(f"role {role!r}: must be one of {', '.join(ROLES)}")
        file = run_dir.require(self.folder, number, role) / "episodes.jsonl"
        return [Episode.of_record(row) for _, row in read_jsonl(file)]

    def ask(self, question: str, number: int | None = None) -> Episode:
        """One greedy episode of the policy after a round: by default the last finished one; 0 is the base."""
        config = self.config
        number = ask.last_round(self.folder) if number is None else number
        if self._asked is None or self._asked[0] != number:
            adapters = run_dir.latest_adapters(self.folder, config, number, None)
            self._asked = number, Agent(config, adapters)
        return ask.ask(self._asked[1], question)
