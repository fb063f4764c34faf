"""Multi-turn episodes: the model writes a turn, the tool answers, until the model answers or a budget is spent.

All requests advance together, mostly one turn at a time. With several processes each rolls out its own share, and every
process gets all episodes back in the order of the requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from accelerate import PartialState
from accelerate.utils import gather_object

from asl_min import protocol
from asl_min.chat import Chat
from asl_min.episode import Episode, FinishReason, Request, Turn
from asl_min.sampling.sampler import Completion, Finish, Sampler
from asl_min.search.tool import SearchTool, respond

SEED_STRIDE = 64  # turns of an episode draw from seeds seed * SEED_STRIDE + turn


@dataclass(frozen=True)
class Limits:
    """Budgets of an episode: assistant turns, sampled tokens a turn, tokens in all (prompt and responses included)."""

    turns: int
    turn_tokens: int
    episode_tokens: int


@dataclass
class _Draft:
    """An episode being written."""

    request: Request
    ids: list[int]
    mask: list[bool]
    logprobs: list[float]
    turns: list[Turn] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    known: int = 0
    """Tokens up to the end of the last turn sampled."""

    def append(self, ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
        """Tokens sampled by the model (with log-probabilities) or given to it (None)."""
        self.ids += ids
        self.mask += [logprobs is not None] * len(ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)

    def finish(self) -> Episode:
        request = replace(self.request, tool=None)
        return Episode(
            request, tuple(self.ids), tuple(self.mask), tuple(self.logprobs), tuple(self.turns), self.finish_reason
        )


class Rollout:
    """Rolls out requests with one sampler, one tool and one set of budgets."""

    def __init__(self, sampler: Sampler, chat: Chat, tool: SearchTool, limits: Limits, batch_rows: int = 1024):
        self.sampler, self.chat, self.tool, self.limits, self.batch_rows = sampler, chat, tool, limits, batch_rows
        # samples of one prompt mostly ask the same; no bound method, whose cycle would keep the sampler's memory alive
        self._response = lru_cache(maxsize=4096)(partial(_respond, chat))
        self.on_turn: Callable[[Turn], None] = lambda turn: None  # for those who watch an episode being played

    def __call__(self, requests: Sequence[Request], temperature: float) -> list[Episode]:
        """One episode a request, in their order, on every process."""
        state = PartialState()
        share = -(-len(requests) // state.num_processes)  # neighbours stay together: they are samples of one prompt
        mine = self._local(requests[state.process_index * share :][:share], temperature)
        return gather_object(mine) if state.num_processes > 1 else mine

    def _local(self, requests: Sequence[Request], temperature: float) -> list[Episode]:
        drafts = [self._open(request) for request in requests]
        alike = sorted(drafts, key=lambda draft: (len(draft.ids), draft.ids))
        for start in range(0, len(alike), self.batch_rows):
            self._play(alike[start : start + self.batch_rows], temperature)
        return [draft.finish() for draft in drafts]

    def _play(self, drafts: list[_Draft], temperature: float) -> None:
        """One batch through all its turns."""
        while active := [d for d in drafts if d.finish_reason is None]:
            room = [min(self.limits.turn_tokens, self.limits.episode_tokens - len(d.ids)) for d in active]
            seeds = [d.request.seed * SEED_STRIDE + len(d.turns) for d in active]
            contexts, known = [d.ids for d in active], [d.known for d in active]
            completions = self.sampler.generate(contexts, seeds, room, temperature, known)
            for draft, completion in zip(active, completions, strict=True):
                if completion:  # else the turn goes on beside the next turns of the others
                    self._advance(draft, completion)
                    self.on_turn(draft.turns[-1])

    def _open(self, request: Request) -> _Draft:
        prompt = self.chat.prompt(request.prompt, **request.fields)
        draft = _Draft(request, [], [], [])
        draft.append(prompt[: self.limits.episode_tokens], None)
        if len(prompt) >= self.limits.episode_tokens:
            draft.finish_reason = FinishReason.MAX_TOKENS
        return draft

    def _advance(self, draft: _Draft, completion: Completion) -> None:
        """Append one sampled turn; then stop, or append the tool's response."""
        draft.append(completion.ids, completion.logprobs)
        draft.known = len(draft.ids)
        ended = completion.finish_reason is Finish.EOS
        text = self.chat.decode(list(completion.ids[:-1] if ended else completion.ids))
        call = protocol.tool_call(text) if completion.finish_reason is not Finish.LENGTH else None
        if call is None:
            draft.turns.append(Turn(text))
            draft.finish_reason = self._finish_reason(draft, completion, text)
            return
        response, glue = self._response(call, ended, draft.request.tool or self.tool)
        draft.turns.append(Turn(text, call.queries, response))
        if len(draft.turns) == self.limits.turns:
            draft.finish_reason = FinishReason.MAX_TURNS
        elif len(draft.ids) + len(glue) >= self.limits.episode_tokens:
            draft.finish_reason = FinishReason.MAX_TOKENS
        else:
            draft.append(glue, None)

    def _finish_reason(self, draft: _Draft, completion: Completion, text: str) -> FinishReason:
        if completion.finish_reason is Finish.LENGTH:
            return FinishReason.MAX_TOKENS if len(draft.ids) >= self.limits.episode_tokens else FinishReason.TURN_LENGTH
        return FinishReason.ANSWER if text.rstrip().endswith(protocol.ANSWER_CLOSE) else FinishReason.END


def _respond(chat: Chat, call: protocol.ToolCall, turn_ended: bool, tool: SearchTool) -> tuple[str, list[int]]:
    """The tool's response, or the error shown instead, with the ids that it adds to the context."""
    response = call.error or respond(tool, list(call.queries))
    return response, chat.tool_response(response, turn_ended)
