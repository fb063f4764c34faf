"""The figures, one message each, from results/runs/*.json: PNG and SVG in results/figures/.

    python -m reproduce.figures [--results reproduce/results]

Lines are means over seeds, bands and bars 95% t-intervals; of two seeds there are thin lines instead of a band, which
would be many times as wide as they lie apart. A figure is drawn if one of its arms was run.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    start("reproduce.figures", __doc__, results)

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from asl_min.run import terminal
from asl_min.tools.figures import round_panels, side_by_side
from reproduce import measures as m

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

pyplot.rcParams |= {
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "asl_min",
}
ROUND = "round (0 = base model)"
ACCURACY = "held-out accuracy, %"
DRAWN = (
    "asl",
    "frozen_grm",
    "rule_reward",
    "absolute_zero",
    "r_zero",
    "drzero",
    "agent0",
    "oracle_grm_late",
    "search_r1_64",
)
COLOURS = {arm: f"C{i}" for i, arm in enumerate(DRAWN)}
ZERO_LABEL = ("asl", "absolute_zero", "r_zero", "drzero", "agent0")


def rounds_figure(runs: m.Runs) -> Figure:
    """ASL and the systems beside it, round by round; Search-R1's end by its number of gold labels, each seed a dot,
    beside asl's without any."""
    figure, (left, right) = panels(2, "ASL and the systems beside it at about equal episodes", sharey=True)
    for arm in ZERO_LABEL:
        draw(left, runs, arm, m.accuracy)
    draw(left, runs, "search_r1_64", m.accuracy, label="search_r1, 64 gold labels")
    for labels in m.GOLD_SIZES:
        finals = [m.final(s) for s in runs.get(f"search_r1_{labels}", {}).values()]
        if finals:
            right.plot(
                [1.12 * labels] * len(finals),
                finals,
                ".",
                color=COLOURS["search_r1_64"],
                label="" if right.lines else "a seed of search_r1",
            )
            point(right, labels, finals, COLOURS["search_r1_64"])
    if "asl" in runs:
        mean, low, high = m.interval(m.final(s) for s in runs["asl"].values())
        right.axhline(mean, color=COLOURS["asl"], label="asl, no gold label")
        if np.isfinite(low):
            right.axhspan(low, high, color=COLOURS["asl"], alpha=0.15, linewidth=0)
    log_ticks(right, m.GOLD_SIZES)
    left.set_ylim(0, 100)
    finish(
        figure,
        {
            left: ("By round", ROUND, ACCURACY),
            right: ("Search-R1 at the end, by its gold labels", "gold labels (log scale)", ""),
        },
        legends=(),
    )
    left.legend(fontsize=7, loc="lower right", ncols=2)
    right.legend(fontsize=8, loc="lower right")
    return figure


def hacking_figure(runs: m.Runs) -> Figure:
    """What the loop pays and what the oracle says, with the GRM frozen and trained."""
    figure, (*left, right) = panels(4, "What the loop pays and what is true, with the GRM trained and frozen")
    shown = {
        "PG reward": (("pg_reward",), "0.01 nats"),
        "Rewarded tasks that\nhave an answer": (m.REWARDED, "% (oracle)"),
        "Rewarded tasks whose\nown answer is right": (m.SOUND, "% (oracle)"),
    }
    arms = {"asl": "GRM trained", "frozen_grm": "GRM frozen"}
    for axis, (keys, _) in zip(left, shown.values(), strict=True):
        for arm, label in arms.items():
            draw(axis, runs, arm, lambda s, keys=keys: m.curve(s, *keys), label=label)
    for arm, label in arms.items():
        draw(right, runs, arm, m.judged_right, label=f"{label}: judged right")
        draw(right, runs, arm, m.truly_right, label=f"{label}: truly right", style="s--")
    right.set_ylim(0, 100)
    texts = {axis: (title, "round", unit) for axis, (title, (_, unit)) in zip(left, shown.items(), strict=True)}
    return finish(
        figure, texts | {right: ("Policy's answers on its tasks,\nby the GRM and by the oracle", "round", "%")}
    )


def injection_figure(runs: m.Runs) -> Figure:
    """Real verification data: none, early, late; and the oracle as the judge from round 3 on; by what labels the GRM
    has otherwise."""
    figure, (left, right) = panels(2, "Real verification data and the ceiling", sharey=True)
    arms = {
        left: ("grm_labels_self", "", "self_inject_late", "self_oracle_late"),
        right: ("asl", "inject_early", "inject_late", "oracle_grm_late"),
    }
    for axis, names in arms.items():
        for number, (arm, label) in enumerate(
            zip(names, ("none", "1% in round 1", "1% in round 3", "oracle judges from round 3"), strict=True)
        ):
            draw(axis, runs, arm, m.accuracy, label=label, color=f"C{number}")
    labels = "GRM's labels: its own verdicts (released code)", "GRM's labels: the PG's own answers (asl)"
    return finish(figure, {axis: (label, ROUND, ACCURACY) for axis, label in zip((left, right), labels, strict=True)})


def scale_figure(runs: m.Runs) -> Figure:
    """Final accuracy against the tasks that the policy phase trains on, steps and episodes equal."""
    figure, (axis,) = panels(1, "Number of self-made tasks, steps and episodes equal")
    sizes = {round(np.mean([m.tasks_used(s) for s in runs[arm].values()])): arm for arm in m.TASK_SIZES if arm in runs}
    for size, arm in sizes.items():
        point(axis, size, [m.final(s) for s in runs[arm].values()], COLOURS["asl"])
    log_ticks(axis, list(sizes))
    return finish(figure, {axis: ("", "tasks a round (log scale)", f"final {ACCURACY}")})


def difficulty_figure(runs: m.Runs) -> Figure:
    """The base policy, which does not learn, on the tasks of each round, and how many of them can be answered."""
    figure, (axis,) = panels(1, "How hard the tasks are for a policy that does not learn")
    draw(
        axis,
        runs,
        "asl",
        lambda s: m.curve(s, "frozen", "accuracy"),
        label="base policy's accuracy on them",
        color="C0",
    )
    draw(axis, runs, "asl", lambda s: m.curve(s, *m.REWARDED), label="answerable (oracle)", color="C2")
    return finish(figure, {axis: ("Tasks of asl", "round", "%")})


def judge_figure(runs: m.Runs) -> Figure:
    """Balanced accuracy on gold judgments, and how often two samples agree."""
    figure, (left, right) = panels(2, "The judge on gold judgments")
    for arm in ("asl", "frozen_grm"):
        draw(left, runs, arm, lambda s: m.curve(s, "grm", "balanced_accuracy"))
        draw(right, runs, arm, lambda s: m.curve(s, "grm", "consistency"))
    return finish(
        figure, {left: ("Balanced accuracy", ROUND, "%"), right: ("Consistency", ROUND, "% of pairs that agree")}
    )


def reward_source_figure(runs: m.Runs) -> Figure:
    """The policy rewarded by the GRM and by the match with the PG's answer, in a world whose answers have aliases."""
    figure, (axis,) = panels(1, "Where the policy's reward comes from")
    for arm, label in {"asl": "GRM verdict", "rule_reward": "match with the PG's answer"}.items():
        draw(axis, runs, arm, m.accuracy, label=label)
    return finish(figure, {axis: ("", ROUND, ACCURACY)})


def efficiency_figure(runs: m.Runs) -> Figure:
    """Accuracy against what was spent, budgets averaged over seeds."""
    figure, axes = panels(2, "Accuracy against what was spent", sharey=True)
    for axis, key in zip(axes, ("episodes", "tokens"), strict=True):
        for arm in ("asl", "frozen_grm", "absolute_zero", "r_zero", "search_r1_64"):
            draw(axis, runs, arm, m.accuracy, at=lambda s, key=key: m.spent(s, key) / 1000)
    units = ("episodes, thousands", "sampled tokens, thousands")
    texts = {axis: ("", unit, ACCURACY) for axis, unit in zip(axes, units, strict=True)}
    return finish(figure, texts, legends=axes[1:])  # both panels have the same arms


def asl_figure(runs: m.Runs) -> Figure:
    """The README's figure: all that is measured of asl, round by round."""
    return side_by_side(round_panels(list(runs["asl"].values())))


FIGURES: dict[str, tuple[Callable[[m.Runs], Figure], Sequence[str]]] = {
    "asl": (asl_figure, ("asl",)),
    "rounds": (rounds_figure, ZERO_LABEL),
    "hacking": (hacking_figure, ("asl", "frozen_grm")),
    "injection": (
        injection_figure,
        ("inject_early", "inject_late", "oracle_grm_late", "self_inject_late", "self_oracle_late"),
    ),
    "data_scale": (scale_figure, m.TASK_SIZES[:-1]),
    "difficulty": (difficulty_figure, ("asl",)),
    "judge": (judge_figure, ("asl", "frozen_grm")),
    "reward_source": (reward_source_figure, ("rule_reward",)),
    "efficiency": (efficiency_figure, ZERO_LABEL),
}


# --- drawing


def panels(count: int, title: str, sharey: bool = False) -> tuple[Figure, Sequence[Axes]]:
    """A white figure, which reads on light and dark pages alike."""
    figure, axes = pyplot.subplots(
        1, count, figsize=(2 + 3.2 * count, 3.8), layout="constrained", facecolor="white", squeeze=False, sharey=sharey
    )
    figure.suptitle(title)
    return figure, axes[0]


def draw(
    axis: Axes,
    runs: m.Runs,
    arm: str,
    measure: Callable,
    label: str = "",
    color: object = None,
    at: Callable | None = None,
    style: str = "o-",
) -> None:
    """One arm's line with its band, over rounds or over the mean of `at`; nothing where the arm was not run."""
    if arm not in runs:
        return
    found = [measure(summary) for summary in runs[arm].values()]
    length = min(map(len, found))
    x = np.mean([at(summary)[:length] for summary in runs[arm].values()], 0) if at else np.arange(length)
    mean, low, high = np.array([m.interval([values[i] for values in found]) for i in range(length)]).T
    (line,) = axis.plot(
        x, mean, style, markersize=4, label=f"{label or arm} ({len(found)})", color=color or COLOURS.get(arm)
    )
    if len(found) > 2:
        axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    elif len(found) == 2:
        axis.plot(x, np.array([values[:length] for values in found]).T, color=line.get_color(), alpha=0.35, linewidth=1)


def point(axis: Axes, x: float, values: list[float], color: str) -> None:
    """A mean with its interval as a bar."""
    mean, low, high = m.interval(values)
    bar = [[mean - low], [high - mean]] if len(values) > 1 else None
    axis.errorbar([x], [mean], yerr=bar, fmt="o", capsize=4, color=color)


def log_ticks(axis: Axes, sizes: Sequence[int]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(list(sizes), [str(size) for size in sizes], minor=False)
    axis.set_xticks([], minor=True)


def finish(figure: Figure, texts: dict[Axes, tuple[str, str, str]], legends: Sequence[Axes] | None = None) -> Figure:
    """Titles, labels with units, and a legend where there are lines (only in `legends`, if given); whole rounds on the
    axis."""
    for axis, (title, x, y) in texts.items():
        axis.set(title=title, xlabel=x, ylabel=y)
        if (legends is None or axis in legends) and axis.lines and axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, title="arm (seeds)", title_fontsize=8)
        if x.startswith("round"):
            axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    return figure


def main(args: Namespace) -> None:
    results = args.results or m.RESULTS
    runs, folder = m.load_runs(results / "runs"), results / "figures"
    drawn = {name: make for name, (make, arms) in FIGURES.items() if runs.keys() & set(arms)}
    if not args.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    for name, make in () if args.dry_run else drawn.items():
        figure = make(runs)
        figure.savefig(folder / f"{name}.png", dpi=120)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
    files = [str(folder / f"{name}.png") for name in drawn]
    terminal.tell("\n".join(files), files=files)
