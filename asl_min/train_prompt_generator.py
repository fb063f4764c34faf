"""Phase 1 of a round: train the Prompt Generator, and collect the round's tasks and verification data.

For every meta prompt the PG writes n tasks. A well-formed task gets M votes of the GRM on its own answer, and K policy
attempts, each judged once by the GRM (verdicts v). In ASL the reward is H(mean v) if at least `verify_threshold` of the
votes say correct, else 0, plus the format bonus; tasks of reward above 0, deduplicated, are the round's tasks, and
every (question, attempt, verdict) is verification data. The recipe says what other systems do instead: in some, the
trained PG then writes fresh tasks, and those alone are the round's.

    python -m asl_min.train_prompt_generator --run runs/NAME --round 1
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
from asl_min.episode import Episode, Task, Triple, seed_of
from asl_min.phase import Phase, phase_main, verdicts
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_row

ROLE = "prompt_generator"


def run_phase(run: Path, round_number: int) -> None:
    """Writes tasks.jsonl (the kept tasks), drafts.jsonl (all, with rewards) and verification.jsonl."""
    with Phase.open(run, round_number, ROLE) as phase:
        prompts, before = meta_prompts(phase), phase.rows["drafts"]  # before: in an interrupted attempt
        kept = rewards.distinct(Task.of_record(row) for row in before if row["kept"])
        for step in phase.steps(0 if any(row["fresh"] for row in before) else phase.config.pg_max_steps):
            if len(kept) >= most_tasks(phase):
                break
            train_step(phase, prompts, kept, step)
        if phase.recipe.fresh_samples:
            write_fresh_tasks(phase, prompts, kept)
        phase.add("drafts", [])  # the files are there even without a step
        phase.add("verification", [])
        phase.write("tasks", [task.record() for task in kept.values()])


def train_step(phase: Phase, prompts: list[dict], kept: dict[str, Task], step: int) -> None:
    """The PG writes tasks and learns from their rewards. `kept`: the round's tasks so far, by question."""
    recipe = phase.recipe
    tasks, episodes = draft(phase, prompts, kept, phase.config.pg_samples, step, fresh=False)
    scored = [
        episode.with_reward(task.reward + recipe.bonus(episode), task=task.record())
        for episode, task in zip(episodes, tasks, strict=True)
    ]
    groups = recipe.task_groups(scored)
    metrics = phase.update(groups, recipe.task_advantages(groups, tasks))
    phase.log(step, mean([task.reward for task in tasks]), metrics | step_metrics(tasks, episodes, kept))


def write_fresh_tasks(phase: Phase, prompts: list[dict], kept: dict[str, Task]) -> None:
    """The trained PG writes tasks for the policy, until each group of episodes that the policy can still afford has a
    task of its own, or `fresh_share` of the round's rollouts is spent on writing and attempting them."""
    config, samples = phase.config, phase.recipe.fresh_samples
    for step in phase.steps(None):
        spent = phase.rollouts - max((row["rollouts"] for row in phase.rows["metrics"] if not row["fresh"]), default=0)
        wanted = min(most_tasks(phase), phase.rollouts_left / (config.policy_samples * phase.recipe.attempt_rollouts))
        if len(kept) >= wanted or spent >= config.fresh_share * config.round_rollouts:
            break
        tasks, episodes = draft(phase, prompts, kept, samples, step, fresh=True)
        phase.log(step, mean([task.reward for task in tasks]), step_metrics(tasks, episodes, kept))


def draft(
    phase: Phase, prompts: list[dict], kept: dict[str, Task], samples: int, step: int, fresh: bool
) -> tuple[list[Task], list[Episode]]:
    """One step's tasks, `samples` a meta prompt, with what their attempts earned them, and the episodes that wrote
    them. Adds them to the drafts, the chosen ones to `kept`, and the attempts to the verification data."""
    recipe, n = phase.recipe, phase.config.pg_prompts
    batch = [prompts[(step * n + i) % len(prompts)] for i in range(n)]
    with phase.timed("rollout"):
        episodes = phase.agent.rollout(ROLE, roles.task_requests(batch, samples, *phase.seed_key, step))
    tasks, episodes = recipe.played(phase, written(phase, episodes), episodes, *phase.seed_key, step)
    tasks = [replace(task, fresh=fresh) for task in tasks]
    tasks = attempted(phase, verified(phase, tasks, step), step)
    earned = recipe.task_rewards(tasks, episodes)
    tasks = [replace(task, reward=reward) for task, reward in zip(tasks, earned, strict=True)]
    if fresh == bool(recipe.fresh_samples):
        chosen = recipe.chosen(tasks, random.Random(seed_of(*phase.seed_key, step, "chosen")))
        tasks = [replace(task, kept=one) for task, one in zip(tasks, chosen, strict=True)]
    phase.add("drafts", [task.record() for task in tasks], remember=False)
    phase.add("verification", [triple.record() for triple in triples(tasks)], remember=False)
    kept.update(rewards.distinct([*kept.values(), *(task for task in tasks if task.kept)]))
    return tasks, episodes


def most_tasks(phase: Phase) -> int:
    """Tasks after which the phase ends."""
    return phase.config.max_tasks_first if phase.round == 1 else phase.config.max_tasks


def meta_prompts(phase: Phase) -> list[dict]:
    """Harder or easier than the previous round's tasks; in round 1, or when there are none, the corpus's titles as
    topics. In random order."""
    rng, found = random.Random(repr(phase.seed_key)), []
    if phase.round > 1:
        file = run_dir.require(phase.run, phase.round - 1, "policy") / "meta_prompts.jsonl"
        found = [upgrade_row(row) for _, row in read_jsonl(file)]
    found = found or [phase.recipe.topic_prompt(topic, rng) for topic in topics(phase.agent.passages)]
    if not found:
        raise InputError(f"{phase.config.corpus}: no passage has a title to start from")
    return rng.sample(found, len(found))


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
        said = verdicts(phase, [found[i] for i in tried], answers, [recipe.answer_key(found[i]) for i in tried], step)
    for i, own in zip(tried, said, strict=True):
        found[i] = replace(found[i], verdicts=tuple(verdict is True for verdict in own))
    return list(found.values())


def answered(task: Task, episodes: Sequence[Episode]) -> Task:
    """The task with the answers of the policy's attempts at it."""
    return replace(task, answers=tuple(roles.answer_of(episode) for episode in episodes))


def triples(tasks: Sequence[Task]) -> list[Triple]:
    """Every attempt that gave an answer, with its verdict: the data that phase 2 draws from."""
    return [
        Triple(task.question, answer, reference=task.answer, verified=task.verified, verdict=verdict)
        for task in tasks
        for answer, verdict in zip(task.answers, task.verdicts, strict=True)
        if answer
    ]


def step_metrics(tasks: Sequence[Task], episodes: Sequence[Episode], kept: dict[str, Task]) -> dict[str, float]:
    """Shares of well-formed, verified and distinct tasks, how often the policy is judged right on them, and how many
    tasks the round has so far."""
    formed = [task for task in tasks if task.well_formed]
    return rewards.finish_shares(episodes) | {
        "fresh": tasks[0].fresh,
        "tasks": len(kept),
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
