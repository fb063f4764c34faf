"""Measures of answered questions: accuracy averaged over relations and over strata, pass@k and majority, with no model.

A macro average is the mean over groups of the mean within each: over relations where all questions name theirs
(`metadata.relation`), else over sets of questions (`metadata.dataset`), else over numbers of hops (`metadata.hops`),
else over one group of all questions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from asl_min.rewards import exact_match, majority, normalize, sub_em


@dataclass(frozen=True)
class Answer:
    """The policy at one held-out question. A row of evaluation/policy.jsonl."""

    id: str
    question: str
    hops: int | None
    relation: str | None
    """The last one of the question's path."""
    phrasing: str | None
    """"seen" or "held_out": does the question's wording occur in demonstrations or prompts?"""
    path_kind: str | None
    """"seen" or "held_out", of the path of relations."""
    dataset: str | None
    """The set of questions that it belongs to."""
    golden_answers: list[str]
    answer: str | None
    right: bool
    tool_calls: int
    finish_reason: str
    turns: list[str]
    responses: list[str | None]
    """What the tool answered to each turn; None where it was not called."""
    found_pages: bool | None
    """Did it read what `metadata.pages` says is needed? None where that is not known."""


STRATA: dict[str, Callable[[Answer], bool]] = {
    "seen": lambda a: a.phrasing == a.path_kind == "seen",
    "held_out_phrasing": lambda a: a.phrasing == "held_out",
    "held_out_path": lambda a: a.path_kind == "held_out",
}
"""Sets of questions by whether wording and path were seen; the last two overlap."""


def groups_of(answers: Sequence[Answer]) -> list[list[Answer]]:
    """The groups of a macro average."""
    by = next((name for name in ("relation", "dataset") if all(getattr(a, name) for a in answers)), "hops")
    found: dict[object, list[Answer]] = {}
    for answer in answers:
        found.setdefault(getattr(answer, by) or 0, []).append(answer)
    return [found[name] for name in sorted(found)]


def macro(answers: Sequence[Answer], values: Sequence[float] | None = None) -> float:
    """Macro average of the answers that are right, or of `values`, [answers]."""
    values = [a.right for a in answers] if values is None else values
    known = {id(answer): value for answer, value in zip(answers, values, strict=True)}
    return float(np.mean([np.mean([known[id(a)] for a in group]) for group in groups_of(answers)]))


def accuracy(answers: Sequence[Answer]) -> dict:
    """`mean` (macro), `interval` of it, `hop1..`, the strata and the sets by name that have questions (each a macro
    average of its own), and the share `answered`."""
    hops, datasets = ({getattr(a, name) for a in answers} - {None} for name in ("hops", "dataset"))
    sets = {f"hop{h}": [a for a in answers if a.hops == h] for h in sorted(hops)}
    sets |= {name: [a for a in answers if a.dataset == name] for name in sorted(datasets)}
    sets |= {name: [a for a in answers if belongs(a)] for name, belongs in STRATA.items()}
    return {name: macro(found) for name, found in sets.items() if found} | {
        "mean": macro(answers),
        "interval": bootstrap([[a.right for a in group] for group in groups_of(answers)]),
        "answered": sum(a.finish_reason == "answer" for a in answers) / len(answers),
    }


def measures(answers: Sequence[Answer]) -> dict:
    """The macro average of each of `MEASURES` that is known of all answers, and where all questions name their set,
    `sets`."""
    known = {name: [of(a) for a in answers] for name, of in MEASURES.items()}
    known = {name: values for name, values in known.items() if None not in values}
    found: dict = {name: macro(answers, values) for name, values in known.items()}
    return found | ({"sets": by_set(answers, list(known))} if all(a.dataset for a in answers) else {})


def by_set(answers: Sequence[Answer], names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """For each set of questions, and `all`, the mean of the sets: [value, low, high] of exact match (`em`) and of these
    `MEASURES`, with 95% bootstrap intervals over questions."""
    sets = {name: [a for a in answers if a.dataset == name] for name in sorted({a.dataset for a in answers})}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ("all", *sets)}
    for measure, of in ({"em": lambda a: a.right} | {name: MEASURES[name] for name in names}).items():
        values = {name: [of(a) for a in own] for name, own in sets.items()}
        for name, groups in ({"all": list(values.values())} | {name: [own] for name, own in values.items()}).items():
            found[name][measure] = [float(np.mean([np.mean(group) for group in groups])), *bootstrap(groups)]
    return found


def f1(answer: str | None, golden: Sequence[str]) -> float:
    """Harmonic mean of the shares of words in common, of the answer and of a golden answer, both normalised; the
    highest over the golden ones (Rajpurkar et al., 2016, arXiv 1606.05250). 0 without an answer."""
    said = normalize(answer or "").split()
    wanted = [normalize(text).split() for text in golden]
    common = [(sum((Counter(said) & Counter(words)).values()), len(words)) for words in wanted]
    return max(2 * shared / (len(said) + length) if shared else 0.0 for shared, length in common)


def found_pages(responses: Sequence[str], needed: Sequence[str | list[str]]) -> bool:
    """Did the tool's responses bring every page needed: a title, or any one of a list of titles? Pages stand in a
    response under their title."""
    lines = {line for response in responses for line in response.split("\n")}
    return all(any(f'"{title}"' in lines for title in ([of] if isinstance(of, str) else of)) for of in needed)


MEASURES: dict[str, Callable[[Answer], float | None]] = {
    "sub_em": lambda a: sub_em(a.answer, a.golden_answers),
    "f1": lambda a: f1(a.answer, a.golden_answers),
    "searches": lambda a: a.tool_calls,
    "found_pages": lambda a: a.found_pages,
}
"""What is measured of an answer beside exact match; None where it is not known."""


def bootstrap(groups: Sequence[Sequence[float]], draws: int = 1000) -> list[float]:
    """95% percentile interval of the mean of group means, questions redrawn within each group."""
    rng = np.random.default_rng(0)
    means = [rng.choice(np.asarray(group, float), (draws, len(group))).mean(1) for group in groups]
    return [float(q) for q in np.quantile(np.mean(means, 0), (0.025, 0.975))]


def sampled_accuracy(samples: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """Of several answers to each question, [questions][samples]: `pass@k` for k = 1, 2, 4, .. and all, macro averages
    of `pass_at`; `majority`, that of whether the most frequent answer is right; `agreement`, the mean share of answers
    that equal it."""
    n, firsts = len(samples[0]), [own[0] for own in samples]
    right = [sum(answer.right for answer in own) for own in samples]
    ks = sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})
    found = {f"pass@{k}": macro(firsts, [pass_at(k, n, c) for c in right]) for k in ks}
    said = [[answer.answer for answer in own] for own in samples]
    most = [majority(answers) for answers in said]
    hits = [exact_match(answer, first.golden_answers) for answer, first in zip(most, firsts, strict=True)]
    return found | {"majority": macro(firsts, hits), "agreement": float(np.mean([agreement(a) for a in said]))}


def pass_at(k: int, n: int, right: int) -> float:
    """Chance that at least one of k answers, drawn from n of which `right` are right, is right:
    1 - C(n - right, k) / C(n, k)."""
    return 1 - comb(n - right, k) / comb(n, k)


def agreement(answers: Sequence[str | None]) -> float:
    """Share of the answers that equal the majority's; no answer agrees with nothing."""
    most = majority(answers)
    return sum(a is not None and normalize(a) == normalize(most) for a in answers if most) / len(answers)
