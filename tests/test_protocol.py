"""The text protocol: what is read from a turn, and that nothing a model writes can make a parser raise."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asl_min import protocol
from asl_min import rewards as text

texts = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                *protocol.TAGS,
                '{"name": "retrieve", "arguments": {"query": "',
                '"}}',
                "conclusion: correct",
                "wrong",
                "?",
                "[",
                "{",
                " ",
                "\n",
                "x",
            ]
        )
    ).map("".join),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    max_leaves=8,
)


def call(arguments: object, name: str = "retrieve") -> str:
    return "<tool_call>" + json.dumps({"name": name, "arguments": arguments}) + "</tool_call>"


# --- tool calls


def test_query_text_is_read_after_a_thought():
    assert protocol.tool_call("<think>search</think>" + call({"query": "France"})) == protocol.ToolCall(("France",))


def test_query_list_is_read_in_order():
    assert protocol.tool_call(call({"query": ["Rome", "Paris"]})).queries == ("Rome", "Paris")


def test_query_list_is_cut_to_the_limit():
    queries = [str(i) for i in range(protocol.MAX_QUERIES + 3)]
    assert protocol.tool_call(call({"query": queries})).queries == tuple(queries[: protocol.MAX_QUERIES])


def test_rendered_call_reads_back():
    assert protocol.tool_call(protocol.render_tool_call('a "quoted" São')).queries == ('a "quoted" São',)


def test_call_followed_by_blanks_is_read():
    assert protocol.tool_call(call({"query": "x"}) + " \n").queries == ("x",)


@pytest.mark.parametrize("text", ["", "no tool", call({"query": "x"}) + " and more", "<tool_call>{}"])
def test_turn_that_does_not_end_with_a_call_makes_none(text):
    assert protocol.tool_call(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "retrieve"}</tool_call>', "without <tool_call>"),
        ("<tool_call>{not json}</tool_call>", "not valid JSON"),
        ("<tool_call></tool_call>", "not valid JSON"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "not valid JSON"),
        (call({"query": "x"}, name="calculate"), "the only tool is"),
        ("<tool_call>[1, 2]</tool_call>", "the only tool is"),
        ("<tool_call>null</tool_call>", "the only tool is"),
        (call("x"), '"query" must be'),
        (call({}), '"query" must be'),
        (call({"query": 7}), '"query" must be'),
        (call({"query": []}), '"query" must be'),
        (call({"query": "  "}), '"query" must be'),
        (call({"query": ["x", 7]}), '"query" must be'),
        (call({"query": {"query": ["x"]}}), '"query" must be'),
    ],
)
def test_malformed_call_gives_an_error_for_the_model(text, said):
    found = protocol.tool_call(text)
    assert found.queries == () and said in found.error


def test_only_the_last_call_of_a_turn_counts():
    assert protocol.tool_call(call({"query": "first"}) + call({"query": "second"})).queries == ("second",)


def test_query_can_be_written_to_a_file():
    r"""JSON may spell half of a surrogate pair, "\ud800", which no text file can hold."""
    found = protocol.tool_call('<tool_call>{"name": "retrieve", "arguments": {"query": "x \\ud800"}}</tool_call>')
    assert all(query.encode() for query in found.queries)


# --- answers, questions, verdicts, tasks


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>x</think><answer> Paris </answer>", "Paris"),
        ("<answer>one</answer><answer>two</answer>", "two"),
        ("<answer>one<answer>two</answer>", "two"),
        ("<answer>  </answer>", None),
        ("<answer></answer>", None),
        ("Paris</answer>", None),
        ("<answer>Paris", None),
        ("</answer>Paris<answer>", None),
        ("", None),
    ],
)
def test_answer(text, answer):
    assert protocol.answer(text) == answer


def test_question_and_answer_are_read_from_one_task():
    text = "<think>t</think><question>Where is Paris?</question><answer>France</answer>"
    assert (protocol.question(text), protocol.answer(text)) == ("Where is Paris?", "France")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("conclusion: correct", True),
        ("conclusion: wrong", False),
        ("Conclusion : Incorrect.", False),
        ("correct", True),
        ("conclusion: not correct", None),
        ("conclusion: correct or wrong", None),
        ("the conclusion: correct", None),
        ("yes", None),
        ("", None),
    ],
)
def test_verdict(said, verdict):
    assert protocol.verdict(f"<answer>{said}</answer>") is verdict


def test_verdict_needs_its_tags():
    assert protocol.verdict("conclusion: correct") is None


@pytest.mark.parametrize(
    ("question", "answer", "well_formed"),
    [
        ("Where is Paris?", "France", True),
        ("Where is Paris? - x", "France", True),  # the '?' among the last five characters
        ("Where is Paris? -- x", "France", False),
        ("Where is Paris", "France", False),
        ("12345678?", "x", False),  # 9 characters
        ("123456789?", "x", True),  # 10 characters
        ("Where is Paris?", None, False),
        ("Where is Paris?", "", False),
        (None, "France", False),
    ],
)
def test_well_formed_task(question, answer, well_formed):
    assert protocol.well_formed_task(question, answer) is well_formed


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("<think>a</think>b", True),
        (" \n<think>a</think>", True),
        ("<think>a", False),
        ("b<think>a</think>", False),
        ("", False),
    ],
)
def test_opens_with_think(text, opens):
    assert protocol.opens_with_think(text) is opens


# --- any text at all


@given(texts)
def test_tool_call_never_raises_and_has_either_queries_or_an_error(text):
    found = protocol.tool_call(text)
    assert found is None or bool(found.queries) != bool(found.error)


@given(json_values)
def test_any_json_in_a_call_is_read_or_refused(value):
    found = protocol.tool_call("<tool_call>" + json.dumps(value) + "</tool_call>")
    assert bool(found.queries) != bool(found.error)


@given(json_values)
def test_any_json_as_query_is_read_or_refused(value):
    found = protocol.tool_call(call({"query": value}))
    assert bool(found.queries) != bool(found.error)


@given(texts)
def test_answer_and_question_are_never_blank(text):
    for found in (protocol.answer(text), protocol.question(text)):
        assert found is None or found.strip()


@given(texts)
def test_verdict_is_true_false_or_none(text):
    found = protocol.verdict(text)
    assert found is None or isinstance(found, bool)


@pytest.mark.parametrize(
    "piece",
    [
        "<answer>",
        "</answer>",
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "<question>?",
        " ",
        "conclusion ",
        "the ",
        "{",
        "\\",
    ],
)
@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "<answer>conclusion{}</answer>",
        '<tool_call>{{"name": "retrieve", "arguments": {{"query": "{}"}}}}</tool_call>',
    ],
)
def test_a_million_characters_are_read_in_linear_time(piece, frame):
    """Anything quadratic would take minutes."""
    said, begun = frame.format(piece * (1_000_000 // len(piece))), time.process_time()
    protocol.tool_call(said), protocol.verdict(said), protocol.question(said), protocol.opens_with_think(said)
    text.exact_match(protocol.answer(said), ["Rome"]), text.sub_em(protocol.answer(said), ["Rome"])
    assert time.process_time() - begun < 20
