"""The questions of the cold start's demonstrations on prose: made of the articles by rules, those that pass the checks.

No labelled question is read. The model itself wrote too few that pass (LOG.md).
"""

import random
from collections import Counter
from collections.abc import Sequence

from asl_min.corpus import Passage
from asl_min.real.checks import fault_of
from asl_min.real.drafts import Draft, bare
from asl_min.real.in_place import in_place
from asl_min.real.rule_questions import possessives, questions, statements
from asl_min.search.tool import SearchTool

BY_GRAMMAR, IN_PLACE = 2, 2
"""Questions an article, at most."""
TITLE_SHARE = 0.15
"""Share of the articles that may have one with the title for its answer."""


def sound_questions(
    articles: Sequence[Passage], tool: SearchTool, seed: int, most: int = IN_PLACE, spread: bool = False
) -> list[Draft]:
    """`tool` finds one page a query. `most`: questions in place an article; `spread`: taken from its sentences in turn,
    else one a kind of answer, which is mostly of the first sentence, since that is the longest."""
    rng, found = random.Random(seed), []
    for article in articles:
        said = list(statements(article))
        by_grammar = sound([d for s in said for d in questions(s)] + [*possessives(article)], article, tool, rng)
        titles = [d for d in by_grammar if d.answer == bare(article.title)]
        found += [d for d in by_grammar if d.answer != bare(article.title)][:BY_GRAMMAR]
        found += titles[: rng.random() < TITLE_SHARE]
        placed = sound([d for s in said for d in in_place(s)], article, tool, rng)
        found += (in_turn(placed) if spread else list({d.kind: d for d in placed}.values()))[:most]
    return found


def in_turn(drafts: Sequence[Draft]) -> list[Draft]:
    """One of each sentence, then a second one of each that has two, and so on."""
    of_sentence: Counter[str] = Counter()
    turns = []
    for draft in drafts:
        turns.append(of_sentence[draft.sentence])
        of_sentence[draft.sentence] += 1
    return [draft for _, draft in sorted(zip(turns, drafts, strict=True), key=lambda pair: pair[0])]


def sound(made: Sequence[Draft], article: Passage, tool: SearchTool, rng: random.Random) -> list[Draft]:
    """Those that pass the checks, in random order."""
    made = [*{d.question: d for d in made}.values()]
    return [d for d in rng.sample(made, len(made)) if not fault_of(d, article.text, tool)]
