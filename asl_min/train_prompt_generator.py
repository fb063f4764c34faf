"""Phase 1 of a round: train the Prompt Generator, and collect the round's tasks and verification data.

For every meta prompt the PG writes n tasks. A well-formed task gets M votes of the GRM on its own answer, and K policy
attempts, each judged once by the GRM (verdicts v). In ASL the reward is H(mean v) if at least `verify_threshold` of the
votes say correct, else 0, plus the format bonus; tasks of reward above 0, deduplicated, are the round's tasks, and
every (question, attempt, verdict) is verification data. The recipe says what other systems do instead.

    accelerate launch -m asl_min.train_prompt_generator --run runs/NAME --round 1
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, ROUND, RUN, start

    start("asl_min.train_prompt_generator", __doc__, CONFIG, RUN, ROUND, OVERRIDES)

import random
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asl_min import rewards, roles
from asl_min.corpus import read_jsonl, topics
from asl_min.episode import Episode, Task, Triple
from asl_min.phase import Phase, phase_main, verdicts
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_row

ROLE = "prompt_generator"


def run_phase(run: Path, round_number: int) -> None:
    """Writes tasks.jsonl (the kept tasks), drafts.jsonl (all, with rewards) and verification.jsonl."""
    with Phase.open(run, round_number, ROLE) as phase:
        config, recipe, prompts = phase.config, phase.recipe, meta_prompts(phase)
        kept = rewards.distinct(filter(recipe.keeps, map(Task.of_record, phase.rows["drafts"])))
        for step in phase.steps(config.pg_max_steps):
            batch = [prompts[(step * config.pg_prompts + i) % len(prompts)] for i in range(config.pg_prompts)]
            with phase.timed("rollout"):
                requests = roles.task_requests(batch, config.pg_samples, *phase.seed_key, step)
                episodes = phase.agent.rollout(ROLE, requests)
            tasks = attempted(phase, verified(phase, written(phase, episodes), step), step)
            earned = recipe.task_rewards(tasks, episodes)
            tasks = [replace(task, reward=reward) for task, reward in zip(tasks, earned, strict=True)]
            scored = [
                episode.with_reward(task.reward + recipe.bonus(episode), task=task.record())
                for episode, task in zip(episodes, tasks, strict=True)
            ]
            metrics = phase.update(recipe.task_groups(scored))
            kept = rewards.distinct([*kept, *filter(recipe.keeps, tasks)])
            phase.add("drafts", [task.record() for task in tasks])
            phase.add("verification", [triple.record() for triple in triples(tasks)])
            metrics |= rewards.finish_shares(episodes) | task_metrics(tasks) | {"tasks": len(kept)}
            phase.log(step, mean(earned), metrics)
            if len(kept) >= (config.max_tasks_first if round_number == 1 else config.max_tasks):
                break
        phase.add("drafts", [])  # the files are there even without a step
        phase.add("verification", [])
        phase.write("tasks", [task.record() for task in kept])


def meta_prompts(phase: Phase) -> list[dict]:
    """Harder or easier than the previous round's tasks; in round 1, or when no task was kept, the corpus's titles as
    topics. In random order."""
    found = []
    if phase.round > 1:
        file = run_dir.require(phase.run, phase.round - 1, "policy") / "meta_prompts.jsonl"
        found = [upgrade_row(row) for _, row in read_jsonl(file)]
    found = found or [roles.topic_prompt(topic) for topic in topics(phase.agent.passages)]
    if not found:
        raise InputError(f"{phase.config.corpus}: no passage has a title to start from")
    return random.Random(repr(phase.seed_key)).sample(found, len(found))


def written(phase: Phase, episodes: Sequence[Episode]) -> list[Task]:
    """The task of each episode; what the recipe does not accept counts as malformed."""
    tasks = [roles.task_of(episode) for episode in episodes]
    return [
        task if task.well_formed and phase.recipe.accepts(task, episode) else replace(task, well_formed=False)
        for task, episode in zip(tasks, episodes, strict=True)
    ]


def verified(phase: Phase, tasks: list[Task], step: int) -> list[Task]:
    """The tasks with M votes on the own answer of each well-formed one; without votes, well-formed is verified."""
    recipe, m = phase.recipe, phase.recipe.votes()
    if not m:
        return [replace(task, verified=task.well_formed) for task in tasks]
    pairs = [(task.question, task.answer) for task in tasks if task.well_formed for _ in range(m)]
    with phase.timed("judging"):
        said = recipe.judge(phase, pairs, *phase.seed_key, step, "verify")
    votes = iter(rewards.by_prompt([verdict is True for verdict in said], m))
    tasks = [replace(task, votes=tuple(next(votes))) if task.well_formed else task for task in tasks]
    return [replace(task, verified=task.well_formed and recipe.verified(task.votes)) for task in tasks]


def attempted(phase: Phase, tasks: list[Task], step: int) -> list[Task]:
    """The tasks with K attempts of the policy at each one that the recipe wants attempted, and a verdict on each."""
    recipe, k = phase.recipe, phase.config.attempts
    tried = [i for i, task in enumerate(tasks) if task.well_formed and recipe.is_attempted(task)]
    with phase.timed("rollout"):
        requests = roles.solve_requests([tasks[i].question for i in tried], k, *phase.seed_key, step, "solve")
        attempts = rewards.by_prompt(phase.agent.rollout("policy", requests), k)
    found = dict(enumerate(tasks)) | {i: answered(tasks[i], own) for i, own in zip(tried, attempts, strict=True)}
    with phase.timed("judging"):
        answers = [found[i].answers for i in tried]
        said = verdicts(phase, [found[i] for i in tried], answers, recipe.answer_key, step)
    for i, own in zip(tried, said, strict=True):
        found[i] = replace(found[i], verdicts=tuple(verdict is True for verdict in own))
    return list(found.values())


def answered(task: Task, episodes: Sequence[Episode]) -> Task:
    """The task with the answers of the policy's attempts at it."""
    answers = tuple(roles.answer_of(episode) for episode in episodes)
    return replace(task, answers=answers, tool_calls=mean([episode.n_tool_calls for episode in episodes]))


def triples(tasks: Sequence[Task]) -> list[Triple]:
    """Every attempt that gave an answer, with its verdict: the data that phase 2 draws from."""
    return [
        Triple(task.question, answer, reference=task.answer, verified=task.verified, verdict=verdict)
        for task in tasks
        for answer, verdict in zip(task.answers, task.verdicts, strict=True)
        if answer
    ]


def task_metrics(tasks: Sequence[Task]) -> dict[str, float]:
    """Shares of well-formed, verified and distinct tasks, and how often the policy is judged right on them."""
    formed = [task for task in tasks if task.well_formed]
    return {
        "well_formed_share": len(formed) / max(len(tasks), 1),
        "verify_mean": mean([mean(task.votes) for task in formed]),
        "solve_rate": mean([mean(task.verdicts) for task in formed if task.verdicts]),
        "kept_share": sum(task.reward > 0 for task in tasks) / max(len(tasks), 1),
        "distinct_share": len(rewards.distinct(formed)) / max(len(formed), 1),
    }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def main(args: Namespace) -> None:
    phase_main(args, ROLE, run_phase)
