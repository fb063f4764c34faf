"""Phase 2 of a round: train the Generative Reward Model on the verification data of phase 1.

The data is balanced per question. The recipe gives each attempt its label, or leaves it out: in ASL, by the mode, the
GRM's own earlier verdict or the match with the PG's own answer. Reward = 1 if the conclusion equals the label, else 0,
plus the format bonus. In round `inject_round`, if there is one, real verification data joins the round's own.

    python -m asl_min.train_reward_model --run runs/NAME --round 1
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, ROUND, RUN, start

    start("asl_min.train_reward_model", __doc__, CONFIG, RUN, ROUND, OVERRIDES)

import random
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from asl_min import rewards, roles
from asl_min.corpus import load_judgments, read_jsonl
from asl_min.episode import Triple, seed_of
from asl_min.phase import Phase, phase_main
from asl_min.run import run_dir

ROLE = "reward_model"


def run_phase(run: Path, round_number: int) -> None:
    """Writes labelled.jsonl, the balanced data trained on. Without any the phase ends at once and the weights stay."""
    with Phase.open(run, round_number, ROLE) as phase:
        config, n = phase.config, phase.config.grm_samples
        data = [] if ROLE in config.frozen else verification_data(phase)
        phase.write("labelled", [triple.record() for triple in data])
        for step in phase.steps(config.grm_max_steps if data else 0):
            batch = [data[(step * config.grm_prompts + i) % len(data)] for i in range(config.grm_prompts)]
            with phase.timed("rollout"):
                requests = [
                    roles.judge_request(triple.question, triple.answer, *phase.seed_key, step, i, j)
                    for i, triple in enumerate(batch)
                    for j in range(n)
                ]
                episodes = phase.agent.rollout(ROLE, requests)
            labels = [triple.label for triple in batch for _ in range(n)]
            said = [roles.verdict_of(episode) for episode in episodes]
            hits = [rewards.label_reward(verdict, label) for verdict, label in zip(said, labels, strict=True)]
            scored = [
                episode.with_reward(hit + phase.recipe.bonus(episode), label=label)
                for episode, hit, label in zip(episodes, hits, labels, strict=True)
            ]
            metrics = phase.update(rewards.by_prompt(scored, n)) | rewards.finish_shares(episodes)
            metrics["says_correct"] = sum(verdict is True for verdict in said) / len(said)
            metrics["unreadable"] = sum(verdict is None for verdict in said) / len(said)
            phase.log(step, sum(hits) / len(hits), metrics)
            if rewards.plateaued(phase.rewards, config.grm_plateau, config.plateau_threshold):
                break


def verification_data(phase: Phase) -> list[Triple]:
    """This round's labelled triples, balanced per question, and injected ones, in random order."""
    file = run_dir.require(phase.run, phase.round, "prompt_generator") / "verification.jsonl"
    rng = random.Random(seed_of(*phase.seed_key))
    triples = [Triple.of_record(row) for _, row in read_jsonl(file)]
    labelled = [replace(triple, label=phase.recipe.label(triple)) for triple in triples]
    found = rewards.balanced([triple for triple in labelled if triple.label is not None], rng)
    if phase.round == phase.config.inject_round:
        found += injected(phase)
    return rng.sample(found, len(found))


def injected(phase: Phase) -> list[Triple]:
    """Real verification data: right and wrong triples of the labelled judgments, `inject_share` of the run's tasks
    each, fixed by the seed."""
    config = phase.config
    size = round(config.inject_share * config.rounds * config.pg_max_steps * config.pg_prompts * config.pg_samples)
    rows = load_judgments(config.path(config.labelled_judgments))
    triples = [Triple(row["question"], row["answer"], label=row["label"], injected=True) for row in rows]
    sides = [[triple for triple in triples if triple.label == label] for label in (True, False)]
    found = [triple for side in sides for triple in random.Random(config.seed).sample(side, min(size, len(side)))]
    phase.gold_labels = len(found)
    return found


def main(args: Namespace) -> None:
    phase_main(args, ROLE, run_phase)
