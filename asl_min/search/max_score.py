"""The exact top k of BM25 without scoring every passage: MaxScore (Turtle and Flood, 1995, "Query evaluation:
strategies and optimizations").

Words are taken from the rarest on. Once those that are left cannot lift a passage that has none of the taken ones to
the k-th best score, only passages of the taken words are looked at. A word that most passages have then costs a few
binary searches in place of a pass over them all.
"""

import bm25s
import numpy as np

SLACK = 1 + 1e-4
"""Of bounds, for the rounding of sums in float32: at most 150 words, each off by 6e-8."""
FEW = 8
"""Where the taken words have more than a FEW-th of all passages, a plain pass over everything is faster."""


class MaxScore:
    """Over an index of bm25s, whose postings (the passages of a word) are in the order of the corpus. Safe to use from
    threads."""

    def __init__(self, index: bm25s.BM25):
        self.index, self.passages, self._largest = index, index.scores["num_docs"], {}
        self.weights, self.places, self.starts = (
            np.asarray(index.scores[name]) for name in ("data", "indices", "indptr")
        )

    def postings(self, word: int) -> tuple[np.ndarray, np.ndarray]:
        """The passages that have a word, and what it adds to the score of each."""
        part = slice(self.starts[word], self.starts[word + 1])
        return self.places[part], self.weights[part]

    def count(self, word: int) -> int:
        return int(self.starts[word + 1] - self.starts[word])

    def largest(self, word: int) -> float:
        """The most that a word adds to a score."""
        if word not in self._largest:
            self._largest[word] = float(self.postings(word)[1].max())
        return self._largest[word]

    def top(self, words: list[int], top_k: int) -> list[tuple[int, float]]:
        """Of a query's words, each as often as it is there: the places of the best passages with their scores, best
        first, of equal ones the first in the corpus. The same, to the bit, as by the scores of all passages."""
        if not words:
            return []
        places = self.candidates(words, top_k)
        if places is None:
            return best(self.index.get_scores_from_ids(words), top_k)
        return [(int(places[i]), score) for i, score in best(self.scores(places, words), top_k)]

    def candidates(self, words: list[int], top_k: int) -> np.ndarray | None:
        """Places, in the order of the corpus, among which are the `top_k` best. None where they are too many to be
        worth it."""
        places, sums = np.zeros(0, self.places.dtype), np.zeros(0)
        left, least = sum(map(self.largest, words)), 0.0
        for word in sorted(words, key=self.count):
            others_are_worse = least > left * SLACK
            if not others_are_worse and (len(places) + self.count(word)) * FEW > self.passages:
                return None
            having, weights = self.postings(word)
            found, held = look_up(places, having)
            sums[held] += weights[found]
            if not others_are_worse:
                new = np.ones(len(having), bool)
                new[found] = False
                places, sums = np.concatenate([places, having[new]]), np.concatenate([sums, weights[new]])
            left -= self.largest(word)
            if len(places) >= top_k:
                least = np.partition(sums, -top_k)[-top_k]
                able = (sums + left) * SLACK >= least
                places, sums = places[able], sums[able]
        return np.sort(places)

    def scores(self, places: np.ndarray, words: list[int]) -> np.ndarray:
        """Added word by word in the query's order, as bm25s does."""
        scores = np.zeros(len(places), self.weights.dtype)
        for word in words:
            having, weights = self.postings(word)
            found, held = look_up(places, having)
            scores[held] += weights[found]
        return scores


def look_up(places: np.ndarray, having: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in `having`, which is in order and not empty, those of the places stand that are there; and which of the
    places they are (mask)."""
    found = having.searchsorted(places)
    found[found == len(having)] = 0
    held = having[found] == places
    return found[held], held


def best(scores: np.ndarray, top_k: int) -> list[tuple[int, float]]:
    """The highest scores above 0 with their places. One maximum after the other: for a few among millions faster than a
    partition."""
    found = []
    for _ in range(top_k):
        place = int(scores.argmax())
        if scores[place] <= 0:
            break
        found.append((place, float(scores[place])))
        scores[place] = 0
    return found
