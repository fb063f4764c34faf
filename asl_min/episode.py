"""What a rollout records: token ids, loss mask and log-probabilities, appended as the tokens are made, never rebuilt
from text."""

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from asl_min.run.old_names import upgrade_row

if TYPE_CHECKING:
    from asl_min.search.tool import SearchTool


class FinishReason(StrEnum):
    """Why an episode ended; the shares are logged at every step."""

    ANSWER = "answer"
    """The model closed an answer."""
    END = "end"
    """The model ended its turn with neither an answer nor a tool call."""
    TURN_LENGTH = "turn_length"
    """A turn ran into its own token limit."""
    MAX_TURNS = "max_turns"
    """The tool was called on the last turn allowed."""
    MAX_TOKENS = "max_tokens"
    """The episode's token budget is spent."""


@dataclass(frozen=True)
class Turn:
    """One assistant turn: its text and, if it called the tool, the queries and the response it was shown."""

    text: str
    queries: tuple[str, ...] = ()
    response: str | None = None


@dataclass(frozen=True)
class Request:
    """One episode to be rolled out: the prompt's name (see `chat.PROMPT_FIELDS`), its fields, and the seed of its
    samples."""

    prompt: str
    fields: dict[str, str]
    seed: int
    tool: "SearchTool | None" = None
    """Searched instead of the agent's own, where an episode may see certain pages alone; not recorded."""


@dataclass(frozen=True)
class Episode:
    """A finished episode. `ids`, `mask`, `logprobs` are all [length]; mask is True on sampled tokens, which alone carry
    loss.

    `logprobs` are the sampler's, natural log at the sampling temperature, 0.0 where mask is False. `meta` holds what a
    role or a related method adds: verdicts, hop or category, parent task.
    """

    request: Request
    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    logprobs: tuple[float, ...]
    turns: tuple[Turn, ...]
    finish_reason: FinishReason
    reward: float = 0.0
    advantage: float = 0.0
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def final_text(self) -> str:
        """The last turn's text, the only one that tasks, answers and verdicts are read from; empty unless it was closed
        by an answer."""
        return self.turns[-1].text if self.turns and self.finish_reason is FinishReason.ANSWER else ""

    @property
    def responses(self) -> list[str]:
        """What the tool answered, call by call."""
        return [turn.response for turn in self.turns if turn.response is not None]

    @property
    def n_tool_calls(self) -> int:
        return sum(turn.response is not None for turn in self.turns)

    @property
    def n_searches(self) -> int:
        """Tool calls that could be read."""
        return sum(bool(turn.queries) for turn in self.turns)

    @property
    def n_sampled(self) -> int:
        return sum(self.mask)

    def with_reward(self, reward: float, **meta: Any) -> "Episode":
        return replace(self, reward=reward, meta=self.meta | meta)

    @classmethod
    def of_record(cls, row: dict[str, Any]) -> "Episode":
        """The episode of a row that `record` made, without log-probabilities, which a row does not hold."""
        row = upgrade_row(row)
        turns = tuple(Turn(t["text"], tuple(t["queries"]), t["response"]) for t in row["turns"])
        request = Request(row["prompt"], row["fields"], row["seed"])
        outcome = FinishReason(row["finish_reason"]), row["reward"], row["advantage"], row["meta"]
        return cls(request, tuple(row["ids"]), tuple(map(bool, row["mask"])), (), turns, *outcome)

    def record(self) -> dict[str, Any]:
        """A JSON row for the episode files of a run."""
        turns = [{"text": t.text, "queries": list(t.queries), "response": t.response} for t in self.turns]
        request = {"prompt": self.request.prompt, "fields": self.request.fields, "seed": self.request.seed}
        outcome = {
            "finish_reason": self.finish_reason.value,
            "reward": self.reward,
            "advantage": self.advantage,
            "n_tool_calls": self.n_tool_calls,
        }
        return (
            request
            | {"turns": turns}
            | outcome
            | {"meta": self.meta, "ids": list(self.ids), "mask": [int(m) for m in self.mask]}
        )


@dataclass(frozen=True)
class Task:
    """A task that the Prompt Generator wrote, and what a step finds out about it, in this order."""

    question: str | None
    answer: str | None
    """The writer's own; None, as the question, where the format is malformed."""
    parent: dict[str, str] | None = None
    """What the writer was asked for: a topic, or an earlier question with a direction."""
    well_formed: bool = False
    verified: bool = False
    """Whether it passed the votes, or there were none."""
    votes: tuple[bool, ...] = ()
    """Judgments of its own answer."""
    answers: tuple[str | None, ...] = ()
    """Of the policy's attempts; None: no answer."""
    verdicts: tuple[bool, ...] = ()
    """Whether each attempt counts as right."""
    reward: float = 0.0
    """Without the bonus for the format."""
    fresh: bool = False
    """Whether it was written after the writer's last update of the round."""
    kept: bool = False
    """Whether it is one of the round's tasks, unless it repeats another one."""
    golden_answers: tuple[str, ...] = ()
    """Only of a labelled question that stands in the place of a task."""

    def record(self) -> dict[str, Any]:
        """A JSON row for drafts.jsonl and tasks.jsonl."""
        return {key: value for key, value in asdict(self).items() if key != "golden_answers"}

    @classmethod
    def of_record(cls, row: dict[str, Any]) -> "Task":
        """The task of a row that `record` made, or of a labelled question."""
        return _of_row(cls, row)


@dataclass(frozen=True)
class Triple:
    """An attempt of the policy at a task, as data for the judge."""

    question: str
    answer: str
    """The attempt's."""
    reference: str | None = None
    """The task's own answer."""
    verified: bool = False
    verdict: bool | None = None
    """What was said of the attempt when it was made; an unreadable judgment counts as wrong."""
    label: bool | None = None
    """What should be said of it."""
    injected: bool = False
    """Real verification data, not the loop's own."""

    def record(self) -> dict[str, Any]:
        """A JSON row for verification.jsonl and labelled.jsonl."""
        return asdict(self)

    @classmethod
    def of_record(cls, row: dict[str, Any]) -> "Triple":
        return _of_row(cls, row)


def _of_row(cls: type, row: dict[str, Any]) -> Any:
    """An object of the row's keys that are fields of the class; lists become tuples."""
    known = {field.name for field in fields(cls)}
    return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items() if key in known})


def seed_of(*key: object) -> int:
    """A 56-bit seed that depends on the key alone: run seed, round, role, step, index."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")
