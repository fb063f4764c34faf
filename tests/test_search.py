"""The search tool on a handful of passages."""

import pytest
from helpers import small_tool

from asl_min.corpus import Passage
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import respond


def test_page_comes_back_under_its_title():
    assert respond(small_tool(1), ["Rome"]) == '"Rome"\nRome is a city in Italy.'


def test_own_page_is_ranked_before_pages_that_mention_the_name():
    assert [p.title for p in small_tool(2).retrieve(["France"])[0]] == ["France", "Paris"]


@pytest.mark.parametrize("query", ["zzzz", "?!", "", "x", "Ü", "\x00"])
def test_query_without_a_known_word_finds_nothing(query):
    assert respond(small_tool(), [query]) == "nothing found"


def test_no_query_finds_nothing():
    assert small_tool().retrieve([]) == []


def test_top_k_larger_than_the_corpus_is_all_of_it():
    assert len(small_tool(50).retrieve(["city France Europe Italy"])[0]) == 3


def test_several_queries_show_each_passage_once():
    assert respond(small_tool(1), ["Rome", "Paris", "Rome"]).count("Rome is a city") == 1


def test_passages_of_one_title_stand_together():
    tool = Bm25Search([Passage("0", "Peru", "Lima is its capital."), Passage("1", "Peru", "Money: sol.")], 2)
    assert respond(tool, ["Peru"]).count('"Peru"') == 1


def test_very_long_query_is_cut():
    assert respond(small_tool(1), ["Rome " * 100_000]) == respond(small_tool(1), ["Rome"])


def test_half_a_surrogate_pair_does_not_end_the_run():
    r"""A model can write "\ud800" into the JSON of its call."""
    assert "Rome is a city" in respond(small_tool(1), ["Rome \ud800"])
