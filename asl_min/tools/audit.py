"""What touched what in a finished round, read from its files: which tool the roles used, where each row came from, what
made each reward.

Everything here is a share (0 to 1) of rows checked one by one, None where there was nothing to check.
"""

from collections.abc import Iterable
from pathlib import Path

from asl_min import recipes, rewards, roles
from asl_min.config import Config
from asl_min.corpus import read_jsonl
from asl_min.episode import Episode, Task
from asl_min.recipes import Recipe
from asl_min.run import run_dir
from asl_min.search.tool import SearchTool, respond


def trace(run: Path, round_number: int, folders: dict[str, Path], config: Config, tool: SearchTool) -> dict[str, dict]:
    """`tool_use`: share of each role's logged episodes that searched; `tool_same`: share of their tool responses that
    this one tool gives again; `rewards_explained`: share of logged rewards that follow from verdicts, labels and the
    format bonus alone; `lineage`: share of the rows of each file that come from the file before it in the loop.
    `folders`: the round's phases, which are finished."""
    recipe = recipes.load(config)
    episodes = {
        role: [Episode.of_record(row) for _, row in read_jsonl(folder / "episodes.jsonl")]
        for role, folder in folders.items()
    }
    searches = {
        role: [turn for episode in found for turn in episode.turns if turn.queries] for role, found in episodes.items()
    }
    return {
        "tool_use": {role: _share(episode.n_tool_calls > 0 for episode in found) for role, found in episodes.items()},
        "tool_same": {
            role: _share(respond(tool, list(turn.queries)) == turn.response for turn in turns)
            for role, turns in searches.items()
        },
        "rewards_explained": {
            role: _share(explains(terms(role, e, recipe), e.reward) for e in found) for role, found in episodes.items()
        },
        "lineage": lineage(run, round_number, folders),
    }


def terms(role: str, episode: Episode, recipe: Recipe) -> list[tuple[str, float]] | None:
    """What the recipe's formula makes of an episode's verdicts or label, and its bonus. None for tasks whose reward
    does not follow from the task alone."""
    meta, bonus = episode.meta, ("format", recipe.bonus(episode))
    if role == "reward_model":
        return [("label match", rewards.label_reward(roles.verdict_of(episode), meta["label"])), bonus]
    if role == "policy":
        return [("verdict", recipe.answer_reward(meta["verdict"])), bonus]
    if not recipe.explains_tasks:
        return None
    return [("task", recipe.task_rewards([Task.of_record(meta["task"])], [episode])[0]), bonus]


def explains(found: list[tuple[str, float]] | None, reward: float) -> bool | None:
    """Is a logged reward the sum of its `terms`? None where these are not known."""
    return None if found is None else abs(sum(value for _, value in found) - reward) < 1e-9


def lineage(run: Path, round_number: int, folders: dict[str, Path]) -> dict[str, float | None]:
    """Rows of a file whose question (or parent) stands in the file before it: meta prompts -> drafts -> tasks,
    labelled, outcomes -> meta prompts."""
    read = {name: [row for _, row in read_jsonl(folders[role] / f"{name}.jsonl")] for name, role in FILES.items()}
    questions = {name: {row.get("question") for row in rows} for name, rows in read.items()}
    found = {
        "tasks": _share(row["question"] in questions["drafts"] for row in read["tasks"]),
        "labelled": _share(row["question"] in questions["drafts"] for row in read["labelled"]),
        "outcomes": _share(row["question"] in questions["tasks"] for row in read["outcomes"]),
        "meta_prompts": _share(row["fields"]["question"] in questions["outcomes"] for row in read["meta_prompts"]),
    }
    if round_number > 1:
        before = [
            row["fields"]
            for _, row in read_jsonl(run_dir.phase_dir(run, round_number - 1, "policy") / "meta_prompts.jsonl")
        ]
        found["drafts"] = (
            _share(row["parent"] in before for row in read["drafts"] if row["well_formed"]) if before else None
        )
    return found


FILES = {
    "drafts": "prompt_generator",
    "tasks": "prompt_generator",
    "labelled": "reward_model",
    "outcomes": "policy",
    "meta_prompts": "policy",
}


def _share(checks: Iterable[bool | None]) -> float | None:
    checks = [check for check in checks if check is not None]
    return sum(checks) / len(checks) if checks else None
