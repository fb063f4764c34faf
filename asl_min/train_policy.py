"""Phase 3 of a round: train the Policy Model on the round's tasks, rewarded by the GRM's verdict alone.

Reward = 1 if the GRM judges the answer correct, else 0 (0 also without an answer), plus the format bonus. From the verdicts come
the next round's meta prompts: harder where at least half of the attempts were judged correct, else easier.

    accelerate launch -m asl_min.train_policy --run runs/NAME --round 1
"""

import random
from pathlib import Path

from asl_min import rewards, run_dir
from asl_min.corpus import read_jsonl
from asl_min.episode import seed_of
from asl_min.phase import Phase, phase_main
from asl_min.roles import policy, reward_model

ROLE = "policy"


def run_phase(run: Path, round_number: int) -> None:
    """Writes meta_prompts.jsonl for the next round and outcomes.jsonl (question, answer, verdict of every episode)."""
    with Phase.open(run, round_number, ROLE) as phase:
        config, tasks = phase.config, shuffled_tasks(phase)
        n, outcomes = config.policy_samples, []
        for step in phase.steps(config.policy_max_steps if tasks else 0):
            batch = [tasks[(step * config.policy_prompts + i) % len(tasks)]["question"] for i in range(config.policy_prompts)]
            with phase.timed("rollout"):
                episodes = phase.agent.rollout(ROLE, policy.requests(batch, n, *phase.seed_key, step))
            pairs = [(e.request.fields["question"], policy.answer(e)) for e in episodes]
            with phase.timed("judging"):
                verdicts = reward_model.judge(phase.agent.as_role("reward_model"), pairs, *phase.seed_key, step, "judge")
            hits = [rewards.verdict_reward(v) for v in verdicts]
            scored = [e.with_reward(h + rewards.format_bonus(e), verdict=v) for e, h, v in zip(episodes, hits, verdicts, strict=True)]
            metrics = phase.update([scored[i : i + n] for i in range(0, len(scored), n)])
            outcomes += [{"step": step, "question": q, "answer": a, "verdict": v} for (q, a), v in zip(pairs, verdicts, strict=True)]
            tools = sum(e.n_tool_calls for e in episodes) / len(episodes)
            phase.log(step, sum(hits) / len(hits), metrics | {"tool_calls": tools} | rewards.stop_shares(episodes))
            if rewards.plateaued(phase.rewards, config.policy_plateau, config.plateau_threshold):
                break
        phase.write("outcomes.jsonl", outcomes)
        phase.write("meta_prompts.jsonl", next_meta_prompts(phase, outcomes))


def shuffled_tasks(phase: Phase) -> list[dict]:
    file = run_dir.require(phase.run, phase.round, "prompt_generator") / "tasks.jsonl"
    tasks = [row for _, row in read_jsonl(file)]
    return random.Random(seed_of(*phase.seed_key)).sample(tasks, len(tasks))


def next_meta_prompts(phase: Phase, outcomes: list[dict]) -> list[dict]:
    """One meta prompt a question, from the mean verdict over its attempts in this phase."""
    verdicts: dict[str, list[bool]] = {}
    for outcome in outcomes:
        verdicts.setdefault(outcome["question"], []).append(outcome["verdict"] is True)
    return [rewards.next_meta_prompt(q, sum(v) / len(v), phase.round, phase.config.width_rounds) for q, v in verdicts.items()]


if __name__ == "__main__":
    phase_main(ROLE, run_phase, __doc__)
