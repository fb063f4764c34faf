"""Normalisation, the two matches, and the `evaluate` metric built on them."""

import socket

import evaluate
import pytest
from helpers import ROOT

from asl_min.rewards import exact_match, normalize, sub_em


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("the UK.", "uk"),
        ("+44", "44"),
        ("  The   New\tYork\n", "new york"),
        ("A man, an apple & the sea", "man apple sea"),
        ("theatre", "theatre"),  # an article only as a whole word
        ("U.S.A.", "usa"),
        ("Europe/Paris", "europeparis"),
        ("", ""),
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("answer", "golden", "right"),
    [
        ("the UK.", ["UK"], True),
        ("44", ["+44"], True),
        ("Britain", ["United Kingdom", "Britain"], True),
        ("the UK and France", ["UK"], False),
        ("U K", ["UK"], False),
        ("2.14 million", ["214 million"], True),  # Search-R1's rule: the point is punctuation
        (None, ["UK"], False),
        ("UK", [], False),
    ],
)
def test_matches(answer, golden, right):
    assert exact_match(answer, golden) is right


@pytest.mark.parametrize(
    ("answer", "golden", "covered"),
    [
        ("it is the United Kingdom, surely", ["United Kingdom"], True),
        ("Nigeria", ["Niger"], False),  # whole words only
        ("Niger or Chad", ["Mali", "Chad"], True),
        ("Chad", ["Chad Republic"], False),
        ("Chad", ["the"], False),  # nothing is left of this golden answer
        (None, ["Chad"], False),
    ],
)
def test_covers(answer, golden, covered):
    assert sub_em(answer, golden) is covered


METRIC = ROOT / "asl_min" / "metrics" / "qa_match"


def test_metric_loads_by_path_without_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("the metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    metric = evaluate.load(str(METRIC))
    # "the UK." equals UK; "in Chad" only contains Chad; "" is neither: 1 of 3 exact, 2 of 3 covered
    found = metric.compute(predictions=["the UK.", "in Chad", ""], references=[["UK"], ["Mali", "Chad"], ["Peru"]])
    assert found == {"exact_match": pytest.approx(1 / 3), "sub_em": pytest.approx(2 / 3)}
