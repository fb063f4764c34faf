"""Exact match and SubEM of short answers, normalised as in Search-R1; an `evaluate` metric that loads offline by
path."""

import datasets
import evaluate

from asl_min.rewards import exact_match, sub_em

_DESCRIPTION = (
    "Share of answers that equal (exact_match) or contain (sub_em) one of the golden answers, after normalisation."
)


class QaMatch(evaluate.Metric):
    """predictions: list of answers ("" for none); references: list of lists of golden answers."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
        )
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=self.__doc__, features=features
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        return {
            "exact_match": sum(exact_match(answer, golden) for answer, golden in pairs) / len(pairs),
            "sub_em": sum(sub_em(answer, golden) for answer, golden in pairs) / len(pairs),
        }
