"""Measures of a judge on gold judgments: balanced accuracy, F1, consistency, with no model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Judgment:
    """One verdict of the GRM on a gold judgment."""

    label: bool
    verdict: bool | None
    hops: int
    kind: str
    """How the candidate answer was made, such as "intermediate"."""

    @property
    def right(self) -> bool:
        """An unreadable verdict is a wrong one."""
        return self.verdict is not None and self.verdict == self.label


def judging(gold: Sequence[dict], samples: Sequence[Sequence[bool | None]]) -> dict:
    """Accuracy a hop, balanced accuracy (mean over hops of the mean over labels), F1 of "correct", consistency (how
    often two samples agree), and accuracy a kind of candidate. `samples`: the verdicts on each gold judgment."""
    judgments = [
        Judgment(row["label"], verdict, row["metadata"].get("hops", 0), row["metadata"].get("kind", ""))
        for row, verdicts in zip(gold, samples, strict=True)
        for verdict in verdicts
    ]
    hops, kinds = sorted({j.hops for j in judgments}), sorted({j.kind for j in judgments})
    by_hop = {f"hop{h}": _balanced([j for j in judgments if j.hops == h]) for h in hops}
    hits = sum(j.label and j.verdict is True for j in judgments)
    said_correct, correct = sum(j.verdict is True for j in judgments), sum(j.label for j in judgments)
    agree = [a == b for verdicts in samples for i, a in enumerate(verdicts) for b in verdicts[i + 1 :]]
    return {
        **by_hop,
        "balanced_accuracy": float(np.mean(list(by_hop.values()))),
        "f1": 2 * hits / max(said_correct + correct, 1),
        "consistency": float(np.mean(agree)),
        "unreadable": sum(j.verdict is None for j in judgments) / len(judgments),
        "by_kind": {kind: float(np.mean([j.right for j in judgments if j.kind == kind])) for kind in kinds},
    }


def _balanced(judgments: Sequence[Judgment]) -> float:
    """Mean of the accuracies on right and on wrong candidates."""
    sides = [[j.right for j in judgments if j.label == side] for side in (True, False)]
    return float(np.mean([np.mean(side) for side in sides if side]))
