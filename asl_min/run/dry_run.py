"""What `--dry-run` says: what a run would do, how large it is and about how long it takes. Nothing is loaded but names
and shapes."""

from pathlib import Path

from asl_min.config import Config
from asl_min.corpus import load_corpus
from asl_min.model import ROLES, empty_base, load_tokenizer
from asl_min.run import run_dir

TINY_RATE = 100
"""Rollouts a second of the tiny base on two CPU cores, over whole phases (README, the table of rounds)."""


def rollouts(config: Config, phase: str) -> int:
    """Episodes and judge calls, at most: a task costs itself, M votes, K attempts and their verdicts; the policy's
    answers a verdict each."""
    if phase == "prompt_generator":
        return (
            config.pg_max_steps
            * config.pg_prompts
            * config.pg_samples
            * (1 + config.verify_samples + 2 * config.attempts)
        )
    if phase == "reward_model":
        return config.grm_max_steps * config.grm_prompts * config.grm_samples
    if phase == "policy":
        return 2 * config.policy_max_steps * config.policy_prompts * config.policy_samples
    held_out = 2 * 3 * config.eval_per_hop if config.questions else 0
    return (
        held_out
        + (3 * config.eval_judgments if config.judgments else 0)
        + (4 * config.eval_tasks if config.oracle else 0)
    )


def plan(config: Config, run: Path | None = None, phases: list[tuple[int, str]] | None = None) -> str:
    """The plan of these (round, phase), of a whole run unless told otherwise; phases that the run has finished are left
    out."""
    load_tokenizer(config)  # which may be unreadable, too
    everything = [(n, phase) for n in range(config.rounds + 1) for phase in (*(ROLES if n else ()), "evaluation")]
    due = [(n, phase) for n, phase in phases or everything if not (run and run_dir.is_done(run, n, phase))]
    counts = {phase: sum(p == phase for _, p in due) for phase in (*ROLES, "evaluation")}
    total = sum(counts[phase] * rollouts(config, phase) for phase in counts)
    rate, source = measured_rate(run, config)
    lines = [
        f"{run or 'no run folder'}: arm {config.name}, seed {config.seed}, {config.rounds} rounds; nothing is done now",
        f"base {config.base_model}: {empty_base(config).num_parameters():,} parameters, LoRA rank {config.lora_rank}",
        f"corpus {config.corpus}: {len(load_corpus(config.path(config.corpus))):,} passages",
        *(
            f"{counts[p]} x {p.replace('_', ' ')}: at most {rollouts(config, p):,} rollouts each"
            for p in counts
            if counts[p]
        ),
        f"together at most {total:,} rollouts of at most {config.max_episode_tokens} tokens",
        f"about {total / rate / 60:.1f} min at most, at {rate:.0f} rollouts/s ({source})"
        if rate
        else f"time: {source}",
    ]
    return "\n".join(lines)


def measured_rate(run: Path | None, config: Config) -> tuple[float, str]:
    """Rollouts a second, and where they were measured; 0 where nobody knows."""
    done = [
        run_dir.facts(run, n, role)
        for n in range(1, config.rounds + 1)
        for role in ROLES
        if run and run_dir.is_done(run, n, role)
    ]
    if done:
        return sum(f["episodes"] + f["judge_calls"] for f in done) / sum(
            f["seconds"] for f in done
        ), f"{len(done)} finished phases of this run"
    if config.base_model == Config().base_model:
        return TINY_RATE, "the tiny base on two CPU cores"
    return 0, "not known before a phase of this base is finished; run --dry-run again then"
