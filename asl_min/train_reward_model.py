"""Phase 2 of a round: train the Generative Reward Model on the verification data of phase 1.

The data is balanced per question. A label is the GRM's own earlier verdict (`grm_labels: self`) or whether the attempt
matches the PG's own answer (`reference`; then only tasks that passed the verify gate are used, a deviation from the
released code, since the other tasks' answers are mostly wrong). Reward = 1 if the conclusion equals the label, else 0,
plus the format bonus. In round `inject_round`, if there is one, real verification data joins the round's own.

    accelerate launch -m asl_min.train_reward_model --run runs/NAME --round 1
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, ROUND, RUN, start

    start("asl_min.train_reward_model", __doc__, CONFIG, RUN, ROUND, OVERRIDES)

import random
from argparse import Namespace
from pathlib import Path

from asl_min import rewards, roles
from asl_min.corpus import load_judgments, read_jsonl
from asl_min.episode import seed_of
from asl_min.phase import Phase, phase_main
from asl_min.run import run_dir

ROLE = "reward_model"


def run_phase(run: Path, round_number: int) -> None:
    """Writes labelled.jsonl, the balanced data trained on. Without any the phase ends at once and the weights stay."""
    with Phase.open(run, round_number, ROLE) as phase:
        config = phase.config
        data = verification_data(phase)
        phase.write("labelled", data)
        for step in phase.steps(config.grm_max_steps if data else 0):
            batch = [data[(step * config.grm_prompts + i) % len(data)] for i in range(config.grm_prompts)]
            asked = [(triple, i, j) for i, triple in enumerate(batch) for j in range(config.grm_samples)]
            with phase.timed("rollout"):
                requests = [
                    roles.judge_request(t["question"], t["answer"], *phase.seed_key, step, i, j) for t, i, j in asked
                ]
                episodes = phase.agent.rollout(ROLE, requests)
            hits = [
                rewards.label_reward(roles.verdict_of(e), t["label"])
                for e, (t, _, _) in zip(episodes, asked, strict=True)
            ]
            scored = [
                e.with_reward(h + rewards.format_bonus(e), label=t["label"])
                for e, h, (t, _, _) in zip(episodes, hits, asked, strict=True)
            ]
            metrics = phase.update(
                [scored[i : i + config.grm_samples] for i in range(0, len(scored), config.grm_samples)]
            )
            said = [roles.verdict_of(e) for e in episodes]
            shares = {
                "says_correct": sum(v is True for v in said) / len(said),
                "unreadable": sum(v is None for v in said) / len(said),
            }
            phase.log(step, sum(hits) / len(hits), metrics | shares | rewards.finish_shares(episodes))
            if rewards.plateaued(phase.rewards, config.grm_plateau, config.plateau_threshold):
                break


def verification_data(phase: Phase) -> list[dict]:
    """This round's labelled triples, balanced per question, and injected ones, in random order."""
    file = run_dir.require(phase.run, phase.round, "prompt_generator") / "verification.jsonl"
    source, rng = phase.config.grm_labels, random.Random(seed_of(*phase.seed_key))
    triples = [row for _, row in read_jsonl(file) if source == "self" or row["verified"]]
    found = rewards.balanced([t | {"label": rewards.label(t, source)} for t in triples], rng)
    if phase.round == phase.config.inject_round:
        found += injected(phase)
    return rng.sample(found, len(found))


def injected(phase: Phase) -> list[dict]:
    """Real verification data: right and wrong triples of the labelled judgments, `inject_share` of the run's tasks
    each, fixed by the seed."""
    config = phase.config
    size = round(config.inject_share * config.rounds * config.pg_max_steps * config.pg_prompts * config.pg_samples)
    triples = [
        {key: row[key] for key in ("question", "answer", "label")}
        for row in load_judgments(config.path(config.labelled_judgments))
    ]
    sides = [[t | {"injected": True} for t in triples if t["label"] == label] for label in (True, False)]
    found = [t for side in sides for t in random.Random(config.seed).sample(side, min(size, len(side)))]
    phase.gold_labels = len(found)
    return found


def main(args: Namespace) -> None:
    phase_main(args, ROLE, run_phase)
