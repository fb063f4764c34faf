"""The page RESULTS.md and what other pages show of the results, as Markdown. Written by claims.py."""

from itertools import takewhile
from pathlib import Path

from asl_min.run.errors import InputError
from asl_min.tools.table import markdown
from reproduce import measures as m
from reproduce.designs import listed
from reproduce.diagram_tables import diagram_text, spread
from reproduce.jobs import ARMS
from reproduce.phase_diagram import base_values
from reproduce.population import Population
from reproduce.tables import (
    arm_curve,
    arms_table,
    audits_table,
    budgets_table,
    choices_table,
    claims_table,
    counts,
    greedy_table,
    over_bases,
    rounds_table,
    short_claims,
    strata_table,
)

COMMAND = "make reproduce PROFILE=full"
ROUND_TABLES = {
    "Held-out accuracy, %": ("accuracy", "mean"),
    "GRM balanced accuracy, %": ("grm", "balanced_accuracy"),
    "GRM consistency, %": ("grm", "consistency"),
    "Drafts that have an answer, %": ("phase", "drafts", "answerable"),
    "Rewarded tasks that have an answer, %": m.REWARDED,
    "Rewarded tasks whose own answer is right, %": m.SOUND,
    "Base policy's accuracy on the round's tasks, %": ("frozen", "accuracy"),
    "Policy reward: judged right, %": ("phase", "judge_reward"),
    "Policy's true accuracy on its tasks, %": ("phase", "true_accuracy"),
}

VERDICTS = (
    "A verdict is that of the worst part, from bad to good: not run, does not hold, undecided, depends, holds. "
    "*Holds*: the effect lies above its threshold and p, after Holm's correction over all claims, below 0.05; of a "
    "single part p is not corrected, so parts of an undecided claim may hold. *Depends*: the sign changes with the "
    "base's judge, writer or policy. *Does not hold*: the 95% interval lies below the threshold; this is not "
    "corrected for the number of claims, of which some would be called so by chance. *Undecided*: the rest, be the "
    "interval wide, or narrow with 0 in it. C3 and C10 are one test."
)


def refresh(page: Path, blocks: dict[str, str]) -> str:
    """The page's text with what stands between `<!-- NAME -->` and `<!-- end -->` replaced. Raises `InputError` where
    the page has no such place."""
    text = page.read_text()
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if not mark or "<!-- end -->" not in rest:
            raise InputError(f"{page}: no <!-- {name} --> with an <!-- end --> after it")
        text = f"{before}{mark}{block}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


def progress(population: Population) -> str:
    """How many runs are there, and that nothing is decided before all are."""
    named, missing = len(population.selection.named), population.selection.missing
    if not missing:
        return f"All {named} runs are there."
    return (
        f"**{named} of {named + len(missing)} runs are there**, so all of this is provisional: no claim is decided "
        "before its runs are complete."
    )


def readme_blocks(population: Population) -> dict[str, str]:
    """What of the README is made of the runs: accuracy by round of the headline arms and with the judge frozen, what
    they gained, and what the base gained that gained least and most."""
    arms = [*population.headline(), *(["frozen_grm"] if "frozen_grm" in population.runs else [])]
    curves = {arm: arm_curve(population.runs, arm, "accuracy", "mean")[0] for arm in arms}
    rounds = [f"round {number}" for number in range(max(map(len, curves.values()), default=0))]
    greedy = base_values(population.bases, "accuracy_greedy.mean")
    head = ["held-out accuracy, %", "bases", "runs", "base, greedy", *rounds]
    cells = [[*head, "gain (95% over bases)", "by base"]]
    for arm, curve in curves.items():
        bases, gains = population.runs[arm], over_bases(population.runs, arm, m.gain)
        size = [str(len(bases)), str(sum(map(len, bases.values())))]
        size.append(spread([greedy[base] for base in bases if base in greedy], interval=False))
        ends = f"{min(gains):+.1f} to {max(gains):+.1f}"
        cells.append([arm, *size, *(f"{x:.1f}" for x in curve), spread(gains, "+"), ends])
    return {"accuracy by round": f"{progress(population)}\n\n{markdown(cells)}"}


def results_blocks(population: Population, rows: list[dict], audits: list[dict]) -> dict[str, str]:
    """What of the page RESULTS.md at the top is made of the runs."""
    return {"claims": f"{progress(population)} {short_claims(rows)}", "audits": audits_table(audits)}


def described(arm: str) -> str:
    """What the comment at the top of an arm's file says."""
    lines = (ARMS / f"{arm}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))


def results_text(population: Population, rows: list[dict], audits: list[dict]) -> str:
    """The text of results/RESULTS.md."""
    primary, others = ([r for r in rows if r["family"] == family] for family in ("primary", "secondary"))
    design, selection = population.design, population.selection
    named = len(selection.named)
    parts = [
        "# Results",
        f"Made by `python -m reproduce.claims` from `runs/*.json`, not by hand; the runs by `{COMMAND}`. The "
        "claims, their tests and what the verdicts mean were fixed before the runs, in `reproduce/preregistered.yaml`; "
        "what became of nine of the bases since stands in the RESULTS.md at the top. "
        f"Runs: {named} of the {len(design.names())} that it names, each of {population.spent()}. ± is half a 95% "
        "interval over bases, of the means over their seeds.",
        ""
        if population.spent() == design.budget
        else f"**These are not the runs that were fixed, of {design.budget}, but a small profile's: a look, no test.**",
        f"Missing: {listed(selection.missing) or 'none'}.",
        "## Claims",
        f"Of the mode `{population.primary}`. {counts(primary)}",
        claims_table(primary),
        VERDICTS,
        "\n".join(f"- {row['id']}: {row['note']}" for row in primary if row["note"]),
        "\n".join(f"- `{name}`: {meaning}" for name, meaning in design.measures.items()),
        "## The same claims of the other modes",
        claims_table(others) if others else "",
        "## Audits",
        "What no run can fail unless the code has an error.",
        audits_table(audits),
        diagram_text(population),
        *arms_parts(population),
        *exploratory_parts(population, [row for row in rows if row["family"] == "exploratory"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def arms_parts(population: Population) -> list[str]:
    """What the arms reached and spent, and every measure by round."""
    parts = [
        "## Arms",
        "Held-out exact match at temperature 1, macro average over relations, %. Beside it what the untrained base "
        "gives: one greedy answer (to 160 questions), the share of questions that one of 16 answers gets right "
        "(pass@16) and the most frequent answer of 16 (of 40 questions a number of hops). The other columns are of "
        "the 408 questions of the runs: small differences between them mean nothing.",
        arms_table(population),
        "\n".join(f"- `{arm}`: {described(arm)}" for arm in population.design.arms),
        "## Kinds of questions",
        "Final accuracy, % (gain in points): all questions, those whose phrasing and path occur in demonstrations, "
        "those with a held-out phrasing, those with a held-out path, and by hops.",
        strata_table(population),
        "## Budgets",
        "What a run spends in all rounds, and its mean held-out accuracy up to the least that a run on its base "
        "spent. A verdict of the judge is one of the rollouts; a match with an answer and a verdict of the oracle are "
        "none. So arms without a judge train their policy on more episodes and by more steps: at equal rollouts C5, "
        "C9 and C14 measure the reward together with these steps. Shares of a round's tasks (C2, C12, C13) rest on as "
        "few tasks as are shown here.",
        budgets_table(population),
    ]
    for title, keys in ROUND_TABLES.items():
        parts += [f"## {title}, by round", table] if (table := rounds_table(population, keys)) else []
    if (population.folder / "lr").is_dir():
        parts += [
            "## Learning rates, chosen on validation questions and other bases",
            choices_table(population.folder / "lr"),
        ]
    return parts


def exploratory_parts(population: Population, timed: list[dict]) -> list[str]:
    """What was not fixed before; `timed`: rows of claims that depend on seconds, without these."""
    named = listed(population.selection.exploratory) or "none"
    parts = ["## Exploratory", f"Runs that were not named before: {named}."]
    if table := greedy_table(population):
        parts += [
            "All accuracies above are at temperature 1. There a model gains that only becomes surer of what it says "
            "most often, and so does the untrained base by greedy decoding alone. The last policy of the runs whose "
            "adapters were kept, and their bases, decoded greedily (`reproduce.greedy`): accuracy, %, and differences, "
            "points.",
            table,
        ]
    if timed:
        parts += [
            "How long a run takes depends on its machine and on what else this does. These runs were made on two kinds "
            "of processor, beside other work, and with sampling code that became faster meanwhile (LOG.md). So the "
            "claims on seconds, without that part:",
            claims_table(timed),
        ]
    return parts
