"""The report as one HTML file that loads nothing else: charts, tables, claims, config and cost, and a browser of the
episodes.

Evaluation code: where the run's world has an oracle, it says which answers are truly right. The page is
`html_report.jinja`. All model output reaches it as JSON whose `<`, `>` and `&` are escaped, and is shown as text, never
as HTML.
"""

import dataclasses
import json
import math
import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import jinja2

from asl_min import protocol, recipes, roles
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import read_jsonl
from asl_min.episode import Episode
from asl_min.model import ROLES, load_tokenizer
from asl_min.run import durable, run_dir
from asl_min.tools.audit import explains, terms
from asl_min.world.oracle import Oracle

MAX_EPISODE_BYTES = 8_000_000
"""Of the episodes in the file; more are cut to a random sample of each role of each round, and the page says so."""
MAX_CHARS = 4_000
"""Of one text shown."""
ACCURACY_COLUMNS = 5


def write_html(
    run: Path, summary: dict, rows: list[list[str]], series: dict[str, Sequence[float]], legend: str, claims: list[dict]
) -> Path:
    """`report/report.html`. `rows`: the table of rounds, header first; `series`: its columns in percent by their long
    names, those of held-out accuracy first; `claims`: rows with `id`, `claim`, `effect`, `ci_low`, `ci_high`,
    `n_seeds`, `verdict` and, if they like, `metric`."""
    config = run_dir.read_config(run)
    groups = episode_groups(run, config, len(summary["rounds"]))
    budget = MAX_EPISODE_BYTES // max(len(groups), 1)
    shown = {key: sample(group, budget) for key, group in groups.items()}
    data = {
        "charts": round_charts(series, summary) + step_charts(run, len(summary["rounds"])),
        "episodes": [row for group in shown.values() for row in group],
    }
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (Path(__file__).parent / "page.jinja").read_text(encoding="utf-8")
    )
    text = page.render(
        summary=summary,
        rows=rows,
        legend=legend,
        claims=[
            {
                key: "–" if value is None else round(value, 1) if isinstance(value, float) else value
                for key, value in row.items()
            }
            for row in claims
        ],
        cost=cost(run, len(summary["rounds"])),
        settings=[(key, value, value != getattr(Config(), key)) for key, value in dataclasses.asdict(config).items()],
        data=data,
        kept=len(data["episodes"]),
        total=sum(map(len, groups.values())),
    )
    file = run / "report" / "report.html"
    durable.write_text(file, text)
    return file


def round_charts(series: dict[str, Sequence[float]], summary: dict) -> list[dict]:
    """Held-out accuracy; judge and tasks. `band`: the 95% bootstrap interval of the mean."""
    lines = [
        {"name": name, "values": [None if math.isnan(v) else v for v in values]} for name, values in series.items()
    ]
    for line in lines:
        if line["name"] == "mean" and all(r["accuracy"] for r in summary["rounds"]):
            line["band"] = [[100 * edge for edge in r["accuracy"]["interval"]] for r in summary["rounds"]]
    charts = {
        "Held-out accuracy": lines[:ACCURACY_COLUMNS],
        "Judge and tasks, against the oracle": lines[ACCURACY_COLUMNS:],
    }
    measured = {
        title: [line for line in of_chart if any(v is not None for v in line["values"])]
        for title, of_chart in charts.items()
    }
    return [
        {"title": title, "x": "round (0 = base)", "unit": "%", "top": 100, "lines": found}
        for title, found in measured.items()
        if found
    ]


def step_charts(run: Path, rounds: int) -> list[dict]:
    """Reward a step of each phase, the rounds end to end."""
    titles = {
        "prompt_generator": "Prompt Generator: reward a step",
        "reward_model": "GRM: agreement with labels",
        "policy": "Policy: judged correct",
    }
    charts = []
    for role in ROLES:
        lines, start = [], 0
        for number in range(1, rounds):
            values = [row["reward"] for _, row in rows_of(run, number, role, "metrics.jsonl")]
            lines.append({"name": f"round {number}", "values": values, "start": start})
            start += len(values)
        if start:
            top = max(0.25, math.ceil(4 * max(v for line in lines for v in line["values"])) / 4)
            charts.append({"title": titles[role], "x": "step", "unit": "", "top": top, "lines": lines})
    return charts


def cost(run: Path, rounds: int) -> list[dict]:
    """Steps, episodes, judge calls, sampled tokens and seconds of every phase; seconds of the evaluations."""
    phases = [(n, phase) for n in range(rounds) for phase in (*(ROLES if n else ()), "evaluation")]
    return [{"round": n, "phase": phase} | run_dir.facts(run, n, phase) for n, phase in phases]


def rows_of(run: Path, number: int, phase: str, name: str) -> list[tuple[int, dict]]:
    file = run_dir.phase_dir(run, number, phase) / name
    return read_jsonl(file) if file.is_file() else []


# --- episodes


def episode_groups(run: Path, config: Config, rounds: int) -> dict[tuple[int, str], list[dict]]:
    """What the browser shows, by round and role: the kept training episodes, and the held-out answers as the role
    "evaluation"."""
    oracle = Oracle.of(config.oracle) if config.oracle else None
    chat, groups = Chat(load_tokenizer(config), str(run / "prompts.yaml")), {}
    for number in range(rounds):
        drafts = rows_of(run, number, "prompt_generator", "drafts.jsonl")
        harder = {
            d["question"] for _, d in drafts if d["well_formed"] and is_harder(d["question"], d["parent"], oracle)
        }
        for role in ROLES if number else ():
            episodes = [Episode.of_record(row) for _, row in rows_of(run, number, role, "episodes.jsonl")]
            groups[number, role] = [
                describe(e, role, config, oracle, harder) | {"round": number, "role": role} | transcript(e, chat)
                for e in episodes
            ]
        held_out = rows_of(run, number, "evaluation", "policy.jsonl")
        groups[number, "evaluation"] = [
            held_out_row(row) | {"round": number, "role": "evaluation"} for _, row in held_out
        ]
    return {key: group for key, group in groups.items() if group}


def is_harder(question: str, parent: dict, oracle: Oracle | None) -> bool:
    """More hops than the earlier question it was made from; without an oracle, asked to be harder."""
    if oracle is None or "question" not in parent:
        return parent.get("direction") == "harder"
    return (oracle.hops(question) or 0) > (oracle.hops(parent["question"]) or 0) > 0


def describe(episode: Episode, role: str, config: Config, oracle: Oracle | None, harder: set[str]) -> dict:
    """Question, answer, what the judge and the oracle say of them, and the reward's terms.

    `judge`: for a task the verify gate, for a judgment the GRM's conclusion, for an answer the verdict on it.
    """
    fields, draft = episode.request.fields, episode.meta.get("task") or {}
    question, answer, judge = fields.get("question"), fields.get("answer"), episode.meta.get("verdict")
    if role == "prompt_generator":
        task = roles.task_of(episode)
        question, answer, judge = task.question, task.answer, draft.get("verified")
    elif role == "reward_model":
        judge = roles.verdict_of(episode)
    else:
        answer = roles.answer_of(episode)
    truth = oracle.right(question, answer) if oracle and question and answer else None
    found = terms(role, episode, recipes.load(config))
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
    return list(zip(draft.get("answers", []), draft.get("verdicts", []), strict=False))


def transcript(episode: Episode, chat: Chat) -> dict:
    """The episode's tokens as text, in stretches that the model wrote (1) or was given (0: masked, without loss)."""
    stretches = groupby(zip(episode.mask, episode.ids, strict=True), key=lambda token: token[0])
    return {"parts": [[int(mask), clip(chat.decode([i for _, i in tokens]))] for mask, tokens in stretches]}


def held_out_row(row: dict) -> dict:
    """An answer of the evaluation, which keeps the model's turns without the passages."""
    facts = {
        "question": row["question"],
        "answer": clip(row["answer"] or ""),
        "judge": None,
        "truth": row["right"],
        "finish_reason": row.get("finish_reason") or row.get("stop"),
    }
    flags = {"malformed": row["answer"] is None, "disagree": False, "harder": False, "gold": row["golden_answers"]}
    return facts | flags | {"parts": [part for text in row["turns"] for part in shown_turn(text)]}


def shown_turn(text: str) -> list[list]:
    return [[1, clip(text)]] + ([[0, "(passages are not kept by the evaluation)"]] if protocol.tool_call(text) else [])


def clip(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} … ({len(text) - MAX_CHARS} more characters)"


def sample(rows: list[dict], budget: int) -> list[dict]:
    """The rows in their order, or as many drawn at random (one at least) as fit into `budget` bytes of JSON."""
    kept, used = set(), 0
    for i in random.Random(0).sample(range(len(rows)), len(rows)):
        used += len(json.dumps(rows[i]))
        if kept and used > budget:
            break
        kept.add(i)
    return [rows[i] for i in sorted(kept)]
