"""Phase 3 of a round: train the Policy Model on the round's tasks, rewarded by the GRM's verdict alone.

Reward = 1 if the GRM judges the answer correct, else 0 (0 also without an answer), plus the format bonus. From the
verdicts come the next round's meta prompts: harder where at least half of the attempts were judged correct, else
easier. With another `policy_reward` a verdict is a match with the answer that `baselines.target` names, and no model
judges.

    accelerate launch -m asl_min.train_policy --run runs/NAME --round 1
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, ROUND, RUN, start

    start("asl_min.train_policy", __doc__, CONFIG, RUN, ROUND, OVERRIDES)

import random
from argparse import Namespace
from pathlib import Path

from asl_min import baselines, rewards, roles
from asl_min.corpus import load_questions, read_jsonl
from asl_min.episode import Episode, seed_of
from asl_min.phase import Phase, phase_main
from asl_min.run import run_dir

ROLE = "policy"


def run_phase(run: Path, round_number: int) -> None:
    """Writes meta_prompts.jsonl for the next round and outcomes.jsonl (question, answer, verdict of every episode)."""
    with Phase.open(run, round_number, ROLE) as phase:
        config, tasks = phase.config, chosen_tasks(phase)
        n, method = config.policy_samples, config.policy_reward
        for step in phase.steps(config.policy_max_steps if tasks else 0):
            batch = [tasks[(step * config.policy_prompts + i) % len(tasks)] for i in range(config.policy_prompts)]
            with phase.timed("rollout"):
                episodes = phase.agent.rollout(
                    ROLE, roles.solve_requests([task["question"] for task in batch], n, *phase.seed_key, step)
                )
            pairs = [(e.request.fields["question"], roles.answer_of(e)) for e in episodes]
            with phase.timed("judging"):
                verdicts = judged(phase, batch, pairs, step)
            hits = [rewards.verdict_reward(v) for v in verdicts]
            scored = [e.with_reward(rewarded(e, v, method), verdict=v) for e, v in zip(episodes, verdicts, strict=True)]
            weights = [baselines.agent0_weight(task["verdicts"]) for task in batch] if method == "agent0" else None
            metrics = phase.update(baselines.advantage_groups(method, scored, n), weights)
            phase.add(
                "outcomes",
                [
                    {"step": step, "question": q, "answer": a, "verdict": v}
                    for (q, a), v in zip(pairs, verdicts, strict=True)
                ],
            )
            tools = sum(e.n_tool_calls for e in episodes) / len(episodes)
            phase.log(step, sum(hits) / len(hits), metrics | {"tool_calls": tools} | rewards.finish_shares(episodes))
            if rewards.plateaued(phase.rewards, config.policy_plateau, config.plateau_threshold):
                break
        phase.add("outcomes", [])  # the file is there even if there were no tasks
        phase.write("meta_prompts", next_meta_prompts(phase, phase.rows["outcomes"]))


def chosen_tasks(phase: Phase) -> list[dict]:
    """What the phase trains on, in random order: the round's tasks, or of a labelled set the same `policy_tasks`
    questions in every round."""
    config, folder = phase.config, run_dir.require(phase.run, phase.round, "prompt_generator")
    if config.policy_reward == "gold":
        tasks = load_questions(config.path(config.labelled_questions))
        tasks = random.Random(config.seed).sample(tasks, min(config.policy_tasks or len(tasks), len(tasks)))
        phase.gold_labels = len(tasks)
    else:
        tasks = [row for _, row in read_jsonl(folder / "tasks.jsonl")]
    return random.Random(seed_of(*phase.seed_key)).sample(tasks, min(config.policy_tasks or len(tasks), len(tasks)))


def judged(phase: Phase, batch: list[dict], pairs: list[tuple[str, str | None]], step: int) -> list[bool | None]:
    """One verdict an episode: the judge's, or whether the answer is the one that the recipe compares with."""
    method, n = phase.config.policy_reward, phase.config.policy_samples
    if method == "verdict":
        return phase.judge(pairs, *phase.seed_key, step, "judge")
    answers = [answer for _, answer in pairs]
    return [
        v
        for i, task in enumerate(batch)
        for v in baselines.verdicts(answers[i * n : (i + 1) * n], baselines.target(task, method))
    ]


def rewarded(episode: Episode, verdict: bool | None, method: str) -> float:
    """The reward that trains: ASL's verdict or the match that stands in for it, with the format bonus, or a related
    system's own."""
    if method in ("verdict", "reference"):
        return rewards.verdict_reward(verdict) + rewards.format_bonus(episode)
    return baselines.solver_reward(method, verdict)


def next_meta_prompts(phase: Phase, outcomes: list[dict]) -> list[dict]:
    """One meta prompt a question, from the mean verdict over its attempts in this phase."""
    verdicts: dict[str, list[bool]] = {}
    for outcome in outcomes:
        verdicts.setdefault(outcome["question"], []).append(outcome["verdict"] is True)
    return [
        rewards.next_meta_prompt(q, sum(v) / len(v), phase.round, phase.config.width_rounds)
        for q, v in verdicts.items()
    ]


def main(args: Namespace) -> None:
    phase_main(args, ROLE, run_phase)
