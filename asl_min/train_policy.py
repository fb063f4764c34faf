"""Phase 3 of a round: train the Policy Model on the round's tasks.

In ASL the reward is 1 if the GRM judges the answer correct, else 0 (0 also without an answer), plus the format bonus;
the recipe says what other systems do instead. From the verdicts come the next round's meta prompts: harder where at
least half of the attempts were judged correct, else easier. Where `round_rollouts` is set, the phase goes on until a
step as dear as the mean of its steps so far no longer fits into what is left of the round's rollouts.

    python -m asl_min.train_policy --run runs/NAME --round 1
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, ROUND, RUN, start

    start("asl_min.train_policy", __doc__, CONFIG, RUN, ROUND, OVERRIDES)

import random
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

from asl_min import rewards, roles
from asl_min.config import Config
from asl_min.corpus import load_questions, read_jsonl
from asl_min.episode import Episode, Task, seed_of
from asl_min.phase import Phase, phase_main, verdicts
from asl_min.run import run_dir

ROLE = "policy"


def run_phase(run: Path, round_number: int) -> None:
    """Writes meta_prompts.jsonl for the next round and outcomes.jsonl (question, answer, verdict of every episode)."""
    with Phase.open(run, round_number, ROLE) as phase:
        config, recipe, tasks = phase.config, phase.recipe, chosen_tasks(phase)
        for step in phase.steps(most_steps(config) if tasks else 0):
            batch = recipe.batch(phase, tasks, step)
            with phase.timed("rollout"):
                questions = [task.question for task in batch]
                requests = roles.solve_requests(questions, config.policy_samples, *phase.seed_key, step)
                episodes = phase.agent.rollout(ROLE, requests, recipe.temperature(phase, tasks))
            with phase.timed("judging"):
                answers = rewards.by_prompt([roles.answer_of(e) for e in episodes], config.policy_samples)
                keys = [recipe.policy_key(task, own) for task, own in zip(batch, answers, strict=True)]
                said = [v for own in verdicts(phase, batch, answers, keys, step) for v in own]
            scored = [
                episode.with_reward(recipe.answer_reward(verdict) + recipe.bonus(episode), verdict=verdict)
                for episode, verdict in zip(episodes, said, strict=True)
            ]
            groups = recipe.answer_groups(scored)
            metrics = phase.update(groups, recipe.answer_advantages(groups, batch))
            phase.add("outcomes", [outcome(step, episode) for episode in scored])
            metrics["tool_calls"] = sum(e.n_tool_calls for e in episodes) / len(episodes)
            right = sum(verdict is True for verdict in said) / len(said)
            phase.log(step, right, metrics | rewards.finish_shares(episodes))
            if rewards.plateaued(phase.rewards, config.policy_plateau, config.plateau_threshold):
                break
        phase.add("outcomes", [])  # the file is there even if there were no tasks
        phase.write("meta_prompts", next_meta_prompts(phase, tasks) if recipe.follows_up else [])


def most_steps(config: Config) -> int:
    """`policy_max_steps`, or as many as a round's rollouts could pay for."""
    if not config.round_rollouts:
        return config.policy_max_steps
    return -(-config.round_rollouts // (config.policy_prompts * config.policy_samples))


def chosen_tasks(phase: Phase) -> list[Task]:
    """What the phase trains on, in random order: the round's tasks, or of the recipe's labelled questions the same
    `policy_tasks` in every round."""
    config, labelled = phase.config, phase.recipe.labelled_questions()
    folder = run_dir.require(phase.run, phase.round, "prompt_generator")
    if labelled:
        rows = load_questions(labelled)
        rows = random.Random(config.seed).sample(rows, min(config.policy_tasks or len(rows), len(rows)))
        phase.gold_labels = len(rows)
    else:
        rows = [row for _, row in read_jsonl(folder / "tasks.jsonl")]
    rows = random.Random(seed_of(*phase.seed_key)).sample(rows, min(config.policy_tasks or len(rows), len(rows)))
    return [Task.of_record({"answer": None} | row) for row in rows]


def outcome(step: int, episode: Episode) -> dict:
    """A row of outcomes.jsonl."""
    facts = {"question": episode.request.fields["question"], "answer": roles.answer_of(episode)}
    return {"step": step} | facts | {"verdict": episode.meta["verdict"]}


def next_meta_prompts(phase: Phase, tasks: list[Task]) -> list[dict]:
    """One meta prompt a task that was attempted, from all attempts at it in this phase; by width in the first rounds,
    then by depth."""
    config, outcomes = phase.config, defaultdict(list)
    for row in phase.rows["outcomes"]:
        outcomes[row["question"]].append(row)
    way = "width" if phase.round <= config.width_rounds else "depth"
    results = config.meta_prompts == "results"
    return [
        rewards.next_meta_prompt(task, outcomes[task.question], way, results)
        for task in tasks
        if task.question in outcomes
    ]


def main(args: Namespace) -> None:
    phase_main(args, ROLE, run_phase)
