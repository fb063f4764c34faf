"""The text protocol of the three roles: tags, tool calls, tasks, answers and verdicts.

Everything here reads model output, which may be anything: each parser returns None (or an error text that the model
gets to see) and never raises. Only what the model itself wrote is ever parsed, so a passage cannot forge a tag.
"""

import json
import re
from dataclasses import dataclass

TOOL_NAME = "retrieve"
TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"
RESPONSE_OPEN, RESPONSE_CLOSE = "<tool_response>", "</tool_response>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
QUESTION_OPEN, QUESTION_CLOSE = "<question>", "</question>"
TAGS = (
    TOOL_OPEN,
    TOOL_CLOSE,
    RESPONSE_OPEN,
    RESPONSE_CLOSE,
    THINK_OPEN,
    THINK_CLOSE,
    ANSWER_OPEN,
    ANSWER_CLOSE,
    QUESTION_OPEN,
    QUESTION_CLOSE,
)
STOP_STRINGS = (TOOL_CLOSE, ANSWER_CLOSE)
MAX_QUERIES = 4


@dataclass(frozen=True)
class ToolCall:
    """What one turn asked of the tool: its queries, or the error text that the model is shown instead of passages."""

    queries: tuple[str, ...] = ()
    error: str | None = None


def tool_call(text: str) -> ToolCall | None:
    """The tool call that a turn ends with; None if it made none."""
    if not text.rstrip().endswith(TOOL_CLOSE):
        return None
    body = _last_between(text, TOOL_OPEN, TOOL_CLOSE)
    if body is None:
        return ToolCall(error=f"error: {TOOL_CLOSE} without {TOOL_OPEN}")
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return ToolCall(error="error: the tool call is not valid JSON")
    if not isinstance(call, dict) or call.get("name") != TOOL_NAME:
        return ToolCall(error=f'error: the only tool is "{TOOL_NAME}"')
    arguments = call.get("arguments")
    query = arguments.get("query") if isinstance(arguments, dict) else None
    queries = [query] if isinstance(query, str) else query
    if not isinstance(queries, list) or not queries or not all(isinstance(q, str) and q.strip() for q in queries):
        return ToolCall(error='error: "query" must be a text or a list of texts')
    # JSON may spell half a surrogate pair, which cannot be encoded
    return ToolCall(tuple(q.encode(errors="replace").decode() for q in queries[:MAX_QUERIES]))


def render_tool_call(query: str) -> str:
    return TOOL_OPEN + json.dumps({"name": TOOL_NAME, "arguments": {"query": query}}, ensure_ascii=False) + TOOL_CLOSE


def answer(text: str) -> str | None:
    """The content of the last `<answer>` of an episode's final turn, None if it is absent or blank."""
    found = _last_between(text, ANSWER_OPEN, ANSWER_CLOSE)
    return found.strip() or None if found else None


def question(text: str) -> str | None:
    found = _last_between(text, QUESTION_OPEN, QUESTION_CLOSE)
    return found.strip() or None if found else None


def thought(text: str) -> str | None:
    return _last_between(text, THINK_OPEN, THINK_CLOSE)


def verdict(text: str) -> bool | None:
    """True for "conclusion: correct", False for "conclusion: wrong" (or "incorrect"), None for anything else."""
    match = re.fullmatch(r"(?:conclusion\s*:)?\s*(correct|wrong|incorrect)\s*\.?", (answer(text) or "").lower())
    return None if match is None else match.group(1) == "correct"


def well_formed_task(question_text: str | None, answer_text: str | None) -> bool:
    """A question of at least 10 characters with a '?' among its last five, and an answer (paper's released reward
    code)."""
    return bool(question_text and answer_text and len(question_text) >= 10 and "?" in question_text[-5:])


def opens_with_think(text: str) -> bool:
    return text.lstrip().startswith(THINK_OPEN) and THINK_CLOSE in text


def _last_between(text: str, opening: str, closing: str) -> str | None:
    """What stands between the last closing tag and the opening tag before it."""
    end = text.rfind(closing)
    start = text.rfind(opening, 0, end) if end >= 0 else -1
    return text[start + len(opening) : end] if start >= 0 else None
