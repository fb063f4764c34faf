"""BM25 over a corpus in memory, top-k passages a query (paper: k = 3).

Deviation from the paper: BM25 instead of E5 + FAISS, and a passage's title is indexed twice beside its text, because a
page is otherwise buried under the pages that mention it.
"""

import re

import bm25s

from asl_min.corpus import Passage
from asl_min.run.errors import InputError
from asl_min.search.tool import MAX_QUERY_CHARS

WORD = re.compile(r"\b\w\w+\b")


class Bm25Search:
    """A `SearchTool` over passages in memory."""

    def __init__(self, passages: list[Passage], top_k: int = 3):
        self.passages, self.top_k = passages, min(top_k, len(passages))
        self._index, found = bm25s.BM25(), tokenize([indexed(p) for p in passages])
        if not any(found):
            raise InputError(f"corpus: none of {len(passages)} passages has a word of two letters to be found by")
        self._index.index(found, show_progress=False)

    def retrieve(self, queries: list[str]) -> list[list[Passage]]:
        """For each query the passages that share a word with it, best first, at most `top_k`."""
        if not queries:
            return []
        tokens = tokenize([query[:MAX_QUERY_CHARS] for query in queries])
        rows, scores = self._index.retrieve(tokens, k=self.top_k, show_progress=False, n_threads=0)
        return [
            [self.passages[i] for i, score in zip(r, s, strict=True) if score > 0]
            for r, s in zip(rows, scores, strict=True)
        ]


def indexed(passage: Passage) -> str:
    """The text that BM25 finds a passage by."""
    return f"{passage.title} {passage.title} {passage.text}"


def tokenize(texts: list[str]) -> list[list[str]]:
    """Lower-case words; no stop words are dropped, since a name may be one."""
    return bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)


def words(query: str) -> list[str]:
    """One text as `tokenize` splits it, without what that sets up on every call (about 40 microseconds)."""
    return WORD.findall(query.lower())
