"""The questions of the cold start's demonstrations on prose: made of the articles by rules, those that pass the checks.

No labelled question is read. The model itself wrote too few that pass (LOG.md).
"""

import random
from collections.abc import Sequence

from asl_min.corpus import Passage
from asl_min.real.checks import fault_of
from asl_min.real.drafts import Draft, bare
from asl_min.real.rule_questions import possessives, questions, statements
from asl_min.search.tool import SearchTool

MOST = 6
"""Questions an article, at most."""
TITLE_SHARE = 0.15
"""Share of the articles that may have one with the title for its answer."""


def sound_questions(articles: Sequence[Passage], tool: SearchTool, seed: int) -> list[Draft]:
    """`tool` finds one page a query."""
    rng, found = random.Random(seed), []
    for article in articles:
        said = list(statements(article))
        by_grammar = sound([d for s in said for d in questions(s)] + [*possessives(article)], article, tool, rng)
        titles = [d for d in by_grammar if d.answer == bare(article.title)]
        found += [d for d in by_grammar if d.answer != bare(article.title)][:MOST]
        found += titles[: rng.random() < TITLE_SHARE]
    return found


def sound(made: Sequence[Draft], article: Passage, tool: SearchTool, rng: random.Random) -> list[Draft]:
    """Those that pass the checks, in random order. A question with two answers is left out."""
    answers: dict[str, set[str]] = {}
    for draft in made:
        answers.setdefault(draft.question, set()).add(draft.answer)
    made = [d for d in {d.question: d for d in made}.values() if len(answers[d.question]) == 1]
    return [d for d in rng.sample(made, len(made)) if not fault_of(d, article.text, tool)]
