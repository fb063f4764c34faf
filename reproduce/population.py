"""All that tables and figures are made of: the design, the runs that it names, and what the bases are like."""

from dataclasses import dataclass
from pathlib import Path

from asl_min.run.errors import InputError
from reproduce.designs import PRIMARY, Budget, Preregistration, Selection, read, select
from reproduce.records import RESULTS, Runs, by_arm, read_bases, read_summaries


@dataclass(frozen=True)
class Population:
    """`runs`: those that the design names; `bases`: measures by base; `folder`: where the results are."""

    design: Preregistration
    selection: Selection
    runs: Runs
    bases: dict[str, dict]
    folder: Path

    @property
    def primary(self) -> str:
        """The arm of the primary mode."""
        return self.design.modes[PRIMARY]

    def arms(self) -> list[str]:
        """Those that were run, in the order of the design."""
        return [arm for arm in self.design.arms if arm in self.runs]

    def headline(self) -> list[str]:
        return [arm for arm in self.design.headline if arm in self.runs]

    def spent(self) -> Budget:
        """Of each run, by the runs themselves: a small profile spends less than the design says."""
        config = next(iter(self.selection.named.values()))["config"]
        return Budget(config["rounds"], config.get("round_rollouts", 0))


def load(folder: Path) -> Population:
    """The results in a folder: `runs/`, and `bases/` or else the recorded measures of the bases. Raises `InputError`
    where there is no run that the design names."""
    design, summaries = read(), read_summaries(folder / "runs")
    selection = select(design, summaries)
    if not selection.named:
        raise InputError(f"{folder / 'runs'}: holds none of the runs that preregistered.yaml names")
    bases = read_bases(folder / "bases") or read_bases(RESULTS / "bases")
    return Population(design, selection, by_arm(selection.named.values()), bases, folder)
