"""An episode of the policy in the form of OpenAI's chat completions.

The searches are tool calls of the message: `{"id", "type": "function", "function": {"name": "retrieve", "arguments"}}`.
They have been made already, so each also has `passages`, what it brought, and the message ends with "stop". Thoughts
are `reasoning_content`, as other servers have them. The answer is followed by the numbers of the passages that it
stands on; `citations` lists these passages.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from uuid import uuid4

from asl_min import protocol, roles
from asl_min.corpus import Passage
from asl_min.episode import Episode, FinishReason, Turn
from asl_min.rewards import normalize
from asl_min.search.tool import SearchTool

CUT = (FinishReason.MAX_TOKENS, FinishReason.TURN_LENGTH)
END = "data: [DONE]\n\n"


class Written:
    """The message of one episode as it grows, turn by turn. `tool`: what the episode searched with, and is searched
    with again for the passages of its queries, which the episode itself holds as text alone."""

    def __init__(self, tool: SearchTool):
        self.tool, self.read, self.calls = tool, {}, 0

    def delta(self, turn: Turn) -> dict:
        """What a turn adds to the message before its answer: its thought, and its search if it made one."""
        added = {"reasoning_content": f"{protocol.thought(turn.text) or ''}\n"}
        return added | ({"tool_calls": [self._call(turn)]} if turn.queries else {})

    def _call(self, turn: Turn) -> dict:
        found = [passage for row in self.tool.retrieve(list(turn.queries)) for passage in row]
        self.read |= {passage.contents: passage for passage in found}
        function = {"name": protocol.TOOL_NAME, "arguments": json.dumps({"query": list(turn.queries)})}
        self.calls += 1
        call = {"index": self.calls - 1, "id": f"call_{self.calls}", "type": "function", "function": function}
        return call | {"passages": [{"id": p.id, "title": p.title, "text": p.text} for p in found]}

    def last(self, episode: Episode) -> dict:
        """The end of the message: the answer with its citations, or why there is none."""
        answer = roles.answer_of(episode)
        if answer is None:
            return {"content": f"No answer (the episode ended: {episode.finish_reason.value}).", "citations": []}
        cited, holds = cite(answer, list(self.read.values()))
        numbers = "".join(f" [{number}]" for number, _ in enumerate(cited, 1)) if holds else ""
        said = [answer + numbers, *([] if holds else ["No passage that it read has these words."])]
        said += [f'[{number}] "{passage.title}" ({passage.id})' for number, passage in enumerate(cited, 1)]
        return {"content": "\n".join(said), "citations": [{"id": p.id, "title": p.title} for p in cited]}


def cite(answer: str, read: Sequence[Passage]) -> tuple[list[Passage], bool]:
    """The passages read that hold the answer's words in a row, after Search-R1's normalisation, and True; if none does,
    all that were read, and False."""
    words = f" {normalize(answer)} "
    holding = [passage for passage in read if words.strip() and words in f" {normalize(passage.contents)} "]
    return (holding, True) if holding else (list(read), False)


def new_head(model: str, kind: str) -> dict:
    """What all parts of an answer begin with. `kind`: "chat.completion" or "chat.completion.chunk"."""
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def finish(episode: Episode) -> str:
    return "length" if episode.finish_reason in CUT else "stop"


def usage(episode: Episode) -> dict:
    """Tokens given to the model, and sampled by it."""
    given = len(episode.ids) - episode.n_sampled
    return {"prompt_tokens": given, "completion_tokens": episode.n_sampled, "total_tokens": len(episode.ids)}


def whole(model: str, played: Iterable[Turn | Episode], tool: SearchTool) -> dict:
    """The answer in one piece. `played`: the turns of an episode, then the episode."""
    *turns, episode = played
    written = Written(tool)
    deltas = [written.delta(turn) for turn in turns]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    thoughts = "".join(delta["reasoning_content"] for delta in deltas)
    message = {"role": "assistant", "reasoning_content": thoughts} | written.last(episode)
    message |= {"tool_calls": calls} if calls else {}
    choice = {"index": 0, "message": message, "finish_reason": finish(episode), "logprobs": None}
    return new_head(model, "chat.completion") | {"choices": [choice], "usage": usage(episode)}


def stream(model: str, played: Iterable[Turn | Episode], tool: SearchTool, with_usage: bool) -> Iterator[str]:
    """The answer as server-sent events, one for each turn as soon as it is there; the last one says why, if the episode
    cannot go on."""
    head, written = new_head(model, "chat.completion.chunk"), Written(tool)
    head |= {"usage": None} if with_usage else {}
    yield event(head, {"role": "assistant", "content": ""})
    try:
        for part in played:
            if isinstance(part, Turn):
                yield event(head, written.delta(part))
                continue
            yield event(head, written.last(part))
            yield event(head, {}, finish(part))
            if with_usage:
                yield f"data: {json.dumps(head | {'choices': [], 'usage': usage(part)})}\n\n"
    except Exception as error:  # whatever it is, the client is told
        yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'server_error', 'code': 'failed'}})}\n\n"
    yield END


def event(head: dict, delta: dict, ended: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": ended, "logprobs": None}
    return f"data: {json.dumps(head | {'choices': [choice]})}\n\n"
