"""The table of tasks that were rated by reading."""

from collections.abc import Sequence

from scipy.stats import binomtest

from asl_min.tools.table import markdown
from reproduce.diagram_tables import spread


def ratings_table(rows: Sequence[dict]) -> str:
    """A row an arm and round. Shares in percent with 95% Wilson intervals over tasks; hops of those that are
    answerable, with a t-interval."""
    groups: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["round"]), []).append(row)
    cells = [["arm", "round", "rated", "answerable", "own answer right", "hops", "kept", "of these right"]]
    for (arm, number), found in sorted(groups.items()):
        kept = [row for row in found if row["kept"]]
        hops = spread([row["hops"] for row in found if row["answerable"]])
        shares = [share([row[key] for row in found]) for key in ("answerable", "answer_right")]
        right = share([row["answer_right"] for row in kept])
        cells.append([arm, str(number), str(len(found)), *shares, hops, str(len(kept)), right])
    return markdown(cells)


def share(values: Sequence[bool]) -> str:
    """Percent with its 95% Wilson interval; "-" of nothing."""
    if not values:
        return "-"
    interval = binomtest(sum(values), len(values)).proportion_ci(method="wilson")
    return f"{100 * sum(values) / len(values):.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
