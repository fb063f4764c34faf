"""What the page's browser shows: the episodes that a run kept, and the answers of its evaluations.

Evaluation code: where the run's world has an oracle, it says which answers are truly right.
"""

import json
import random
from itertools import groupby
from pathlib import Path

from asl_min import protocol, recipes, roles
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import read_jsonl
from asl_min.episode import Episode
from asl_min.model import ROLES, load_tokenizer
from asl_min.recipes import Recipe
from asl_min.run import run_dir
from asl_min.run.old_names import upgrade_row
from asl_min.tools.audit import explains, terms
from asl_min.world.oracle import Oracle

MAX_EPISODE_BYTES = 8_000_000
"""Of the episodes in the page. If there are more, it shows a random sample of each role of each round, and says so."""
MAX_CHARS = 4_000
"""Of one text shown."""


def episode_groups(run: Path, config: Config, rounds: int) -> dict[tuple[int, str], list[dict]]:
    """The rows that the browser shows, by (round, role): the kept episodes of training, and the answers to held-out
    questions under the role "evaluation"."""
    oracle, recipe = Oracle.of(config.oracle) if config.oracle else None, recipes.load(config)
    chat, groups = Chat(load_tokenizer(config), str(run / "prompts.yaml")), {}
    for number in range(rounds):
        drafts = rows_of(run, number, "prompt_generator", "drafts.jsonl")
        harder = {
            d["question"] for _, d in drafts if d["well_formed"] and is_harder(d["question"], d["parent"], oracle)
        }
        for role in ROLES if number else ():
            episodes = [Episode.of_record(row) for _, row in rows_of(run, number, role, "episodes.jsonl")]
            groups[number, role] = [
                describe(e, role, recipe, oracle, harder) | {"round": number, "role": role} | transcript(e, chat)
                for e in episodes
            ]
        held_out = rows_of(run, number, "evaluation", "policy.jsonl")
        groups[number, "evaluation"] = [
            held_out_row(upgrade_row(row)) | {"round": number, "role": "evaluation"} for _, row in held_out
        ]
    return {key: group for key, group in groups.items() if group}


def rows_of(run: Path, number: int, phase: str, name: str) -> list[tuple[int, dict]]:
    """(line number, object) of each line of a phase's file; none if there is no such file."""
    file = run_dir.phase_dir(run, number, phase) / name
    return read_jsonl(file) if file.is_file() else []


def is_harder(question: str, parent: dict, oracle: Oracle | None) -> bool:
    """Whether the question has more hops than the earlier one it was made from; without an oracle, whether it was asked
    to be harder."""
    if oracle is None or "question" not in parent:
        return parent.get("direction") == "harder"
    return (oracle.hops(question) or 0) > (oracle.hops(parent["question"]) or 0) > 0


def describe(episode: Episode, role: str, recipe: Recipe, oracle: Oracle | None, harder: set[str]) -> dict:
    """A row of the browser: question, answer, what judge and oracle say of them, and the terms of the reward.

    `judge`: for a task the verify gate's decision, for a judgment the GRM's conclusion, for an answer its verdict.
    """
    fields, draft = episode.request.fields, episode.meta.get("task") or {}
    question, answer, judge = fields.get("question"), fields.get("answer"), episode.meta.get("verdict")
    if role == "prompt_generator":
        task = roles.task_of(episode)  # in some systems an episode is rewarded for a task that another one wrote
        question, answer = task.question or draft.get("question"), task.answer or draft.get("answer")
        judge = draft.get("verified")
    elif role == "reward_model":
        judge = roles.verdict_of(episode)
    else:
        answer = roles.answer_of(episode)
    truth = oracle.right(question, answer) if oracle and question and answer else None
    found = terms(role, episode, recipe)
    return {
        "question": clip(question or ""),
        "from": clip(" · ".join(fields.values())) if role == "prompt_generator" else "",
        "answer": clip(answer or ""),
        "judge": judge,
        "truth": truth,
        "label": episode.meta.get("label"),
        "malformed": not answer or (role == "reward_model" and judge is None),
        "disagree": None not in (judge, truth) and judge != truth,
        "harder": question in harder,
        "terms": found if explains(found, episode.reward) else [("the recipe's", episode.reward)],
        "reward": episode.reward,
        "advantage": episode.advantage,
        "finish_reason": episode.finish_reason.value,
        "votes": draft.get("votes", []),
        "attempts": [[clip(a or ""), v, oracle.right(question, a) if oracle else None] for a, v in attempts(draft)],
    }


def attempts(draft: dict) -> list[tuple[str | None, bool]]:
    """Answer and verdict of each of the policy's attempts at a task."""
    return list(zip(draft.get("answers", []), draft.get("verdicts", []), strict=False))


def transcript(episode: Episode, chat: Chat) -> dict:
    """The episode's text in parts, each with a flag: 1 for tokens that the model sampled, 0 for tokens that it was
    given, which carry no loss."""
    stretches = groupby(zip(episode.mask, episode.ids, strict=True), key=lambda token: token[0])
    return {"parts": [[int(mask), clip(chat.decode([i for _, i in tokens]))] for mask, tokens in stretches]}


def held_out_row(row: dict) -> dict:
    """A row of the browser from the evaluation, which keeps the model's turns and what it searched out, but neither
    prompt nor tokens."""
    facts = {
        "question": row["question"],
        "answer": clip(row["answer"] or ""),
        "judge": None,
        "truth": row["right"],
        "finish_reason": row["finish_reason"],
    }
    flags = {"malformed": row["answer"] is None, "disagree": False, "harder": False, "gold": row["golden_answers"]}
    responses = row.get("responses") or [None] * len(row["turns"])
    shown = [part for turn in zip(row["turns"], responses, strict=True) for part in shown_turn(*turn)]
    return facts | flags | {"parts": shown}


def shown_turn(text: str, response: str | None) -> list[list]:
    """The parts of one turn: its text, and the passages that its search brought. Runs of before did not keep these."""
    if response is None:
        note = "(the passages were not kept)" if protocol.tool_call(text) else None
        return [[1, clip(text)], *([[0, note]] if note else [])]
    return [[1, clip(text)], [0, clip(f"{protocol.RESPONSE_OPEN}\n{response}\n{protocol.RESPONSE_CLOSE}")]]


def clip(text: str) -> str:
    """The first `MAX_CHARS` characters."""
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} … ({len(text) - MAX_CHARS} more characters)"


def sample(rows: list[dict], budget: int) -> list[dict]:
    """All rows; or a random choice, in their order, of about `budget` bytes of JSON and at least one row."""
    kept, used = set(), 0
    for i in random.Random(0).sample(range(len(rows)), len(rows)):
        used += len(json.dumps(rows[i]))
        if kept and used > budget:
            break
        kept.add(i)
    return [rows[i] for i in sorted(kept)]
