"""Phase 1 of a round: train the Prompt Generator, and collect the round's tasks and verification data.

For every meta prompt the PG writes n tasks. A well-formed task gets M votes of the GRM on its own answer, and K policy
attempts, each judged once by the GRM (verdicts v). Reward = H(mean v) if at least `verify_threshold` of the votes say
correct, else 0, plus the format bonus. Tasks with H > 0 that pass the gate, deduplicated, are the round's tasks; every
(question, attempt, verdict) is verification data. With another `pg_reward` there are no votes, and `baselines.py` says
what is right, rewarded and kept.

    accelerate launch -m asl_min.train_prompt_generator --run runs/NAME --round 1
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, ROUND, RUN, start

    start("asl_min.train_prompt_generator", __doc__, CONFIG, RUN, ROUND, OVERRIDES)

import random
from argparse import Namespace
from pathlib import Path

from asl_min import baselines, rewards, roles
from asl_min.config import Config
from asl_min.corpus import read_jsonl, topics
from asl_min.episode import Episode
from asl_min.phase import Phase, phase_main
from asl_min.run import run_dir
from asl_min.run.errors import InputError

ROLE = "prompt_generator"


def run_phase(run: Path, round_number: int) -> None:
    """Writes tasks.jsonl (the kept tasks), drafts.jsonl (all, with rewards) and verification.jsonl."""
    with Phase.open(run, round_number, ROLE) as phase:
        config, prompts = phase.config, meta_prompts(phase)
        for step in phase.steps(config.pg_max_steps):
            asked = [prompts[(step * config.pg_prompts + i) % len(prompts)] for i in range(config.pg_prompts)]
            with phase.timed("rollout"):
                episodes = phase.agent.rollout(
                    ROLE, roles.task_requests(asked, config.pg_samples, *phase.seed_key, step)
                )
            found, attempts = assess(phase, [roles.task_of(e) for e in episodes], step)
            scored = rewarded(episodes, found, config)
            metrics = phase.update(
                baselines.advantage_groups(config.pg_reward, scored, config.pg_samples)
            ) | rewards.finish_shares(episodes)
            phase.add("drafts", found)
            phase.add("verification", attempts)
            tasks = kept(phase.rows["drafts"], config)
            phase.log(step, mean([d["reward"] for d in found]), metrics | task_metrics(found) | {"tasks": len(tasks)})
            if len(tasks) >= (config.max_tasks_first if round_number == 1 else config.max_tasks):
                break
        phase.add("drafts", [])  # the files are there even without a step
        phase.add("verification", [])
        phase.write("tasks", kept(phase.rows["drafts"], config))


def meta_prompts(phase: Phase) -> list[dict]:
    """Harder or easier than the previous round's tasks; in round 1, or when no task was kept, the corpus's titles as
    topics. In random order."""
    found = []
    if phase.round > 1:
        found = [
            row for _, row in read_jsonl(run_dir.require(phase.run, phase.round - 1, "policy") / "meta_prompts.jsonl")
        ]
    found = found or [roles.topic_prompt(topic) for topic in topics(phase.agent.passages)]
    if not found:
        raise InputError(f"{phase.config.corpus}: no passage has a title to start from")
    return random.Random(repr(phase.seed_key)).sample(found, len(found))


def assess(phase: Phase, tasks: list[dict | None], step: int) -> tuple[list[dict], list[dict]]:
    """Verify, solve and judge the well-formed tasks: every task as a draft with its votes and verdicts, and the
    verification triples.

    A task that fails the verify gate earns 0 whatever its attempts, so it is solved only where its verdicts are data
    (`grm_labels: self`).
    """
    config, key = phase.config, (*phase.seed_key, step)
    gated = config.pg_reward == "entropy_verify"
    unknown = {"verified": not gated, "verdicts": [], "votes": [], "answers": []}
    drafts = [
        (task or {"question": None, "answer": None}) | {"well_formed": task is not None} | unknown for task in tasks
    ]
    formed = [d for d in drafts if d["well_formed"]]
    for draft, votes in (
        zip(formed, vote(phase, formed, config.verify_samples, *key, "verify"), strict=True) if gated else ()
    ):
        draft |= {"votes": votes, "verified": rewards.verified(votes, config.verify_threshold)}
    solved = [d for d in formed if d["verified"] or config.grm_labels == "self"]
    attempt(phase, solved, config.attempts, *key)
    triples = [
        {
            "question": d["question"],
            "reference": d["answer"],
            "verified": d["verified"],
            "answer": answer,
            "verdict": verdict,
        }
        for d in solved
        for answer, verdict in zip(d["answers"], d["verdicts"], strict=True)
        if answer
    ]
    return drafts, triples


def vote(phase: Phase, tasks: list[dict], m: int, *key: object) -> list[list[bool]]:
    """M verdicts of the GRM on each task's own answer."""
    with phase.timed("judging"):
        pairs = [(task["question"], task["answer"]) for task in tasks for _ in range(m)]
        verdicts = phase.judge(pairs, *key)
    return [[v is True for v in verdicts[i * m : (i + 1) * m]] for i in range(len(tasks))]


def attempt(phase: Phase, tasks: list[dict], k: int, *key: object) -> None:
    """K policy attempts at each task, each judged or matched once; fills in `answers`, `verdicts` and the mean number
    of tool calls."""
    with phase.timed("rollout"):
        episodes = phase.agent.rollout(
            "policy", roles.solve_requests([task["question"] for task in tasks], k, *key, "solve")
        )
    for i, task in enumerate(tasks):
        own = episodes[i * k : (i + 1) * k]
        task |= {"answers": [roles.answer_of(e) for e in own], "tool_calls": mean([e.n_tool_calls for e in own])}
    method = phase.config.pg_reward
    with phase.timed("judging"):
        if method == "entropy_verify":
            said = phase.judge(
                [(task["question"], answer) for task in tasks for answer in task["answers"]], *key, "judge"
            )
        else:
            said = [v for task in tasks for v in baselines.verdicts(task["answers"], baselines.target(task, method))]
    for i, task in enumerate(tasks):
        task["verdicts"] = [v is True for v in said[i * k : (i + 1) * k]]


def rewarded(episodes: list[Episode], drafts: list[dict], config: Config) -> list[Episode]:
    """The episodes with the rewards that train them; fills in each draft's `reward`, which leaves the format bonus
    out."""
    if config.pg_reward == "entropy_verify":
        earned = [rewards.task_reward(d["verdicts"], d["votes"], config.verify_threshold) for d in drafts]
        bonus = [rewards.format_bonus(episode) for episode in episodes]
    else:
        earned, bonus = baselines.task_rewards(config.pg_reward, drafts, episodes), [0.0] * len(drafts)
    for draft, reward in zip(drafts, earned, strict=True):
        draft["reward"] = reward
    return [e.with_reward(r + b, task=d) for e, d, r, b in zip(episodes, drafts, earned, bonus, strict=True)]


def kept(drafts: list[dict], config: Config) -> list[dict]:
    """The round's tasks so far: the drafts that the recipe keeps, deduplicated."""
    return rewards.distinct_tasks([draft for draft in drafts if baselines.keeps(config.pg_reward, draft)])


def task_metrics(drafts: list[dict]) -> dict[str, float]:
    """Shares of well-formed, verified and distinct tasks, and how often the policy is judged right on them."""
    formed = [d for d in drafts if d["well_formed"]]
    return {
        "well_formed_share": len(formed) / max(len(drafts), 1),
        "verify_mean": mean([mean(d["votes"]) for d in formed]),
        "solve_rate": mean([mean(d["verdicts"]) for d in formed if d["verdicts"]]),
        "kept_share": sum(d["reward"] > 0 for d in drafts) / max(len(drafts), 1),
        "distinct_share": len(rewards.distinct_tasks(formed)) / max(len(formed), 1),
    }


def mean(values: list) -> float:
    return sum(values) / len(values) if values else 0.0


def main(args: Namespace) -> None:
    phase_main(args, ROLE, run_phase)
