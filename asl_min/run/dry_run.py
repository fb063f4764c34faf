"""What `--dry-run` says: what a run would do, its size and about how long it takes. Loads names and shapes only."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from asl_min import recipes
from asl_min.config import Config
from asl_min.corpus import load_corpus
from asl_min.model import ROLES, empty_base
from asl_min.run import run_dir, terminal

TINY_RATE = 37
"""Rollouts a second of a tiny base on two CPU cores, averaged over a whole run (LOG.md: 21,000 in 565 s)."""

HOPS = 4
"""Most hops of a held-out question of the embedded world."""


def writer_step(config: Config) -> int:
    """Most rollouts of a step of the Prompt Generator: a draft costs itself, M votes, K attempts and their verdicts."""
    return config.pg_prompts * config.pg_samples * (1 + config.verify_samples + 2 * config.attempts)


def rollouts(config: Config, phase: str) -> int:
    """Most episodes and judge calls of one phase. An episode of the policy costs itself and a verdict. `round_rollouts`
    bounds a phase (a round may spend less than one step more), and the policy phase may spend them whole. An
    evaluation, but the base's, also lets the base attempt the round's tasks."""
    if phase == "evaluation":
        held_out = (1 + config.eval_greedy) * HOPS * config.eval_per_hop if config.questions else 0
        judged = 3 * config.eval_judgments if config.judgments else 0
        return held_out + judged + (5 * config.eval_tasks if config.oracle else 0)
    writing = config.pg_max_steps * writer_step(config)
    if recipes.load(config).fresh_samples:
        writing += round(config.fresh_share * config.round_rollouts)
    most = {
        "prompt_generator": writing,
        "reward_model": config.grm_max_steps * config.grm_prompts * config.grm_samples,
        "policy": 2 * config.policy_max_steps * config.policy_prompts * config.policy_samples,
    }
    if not config.round_rollouts:
        return most[phase]
    return config.round_rollouts if phase == "policy" else min(most[phase], config.round_rollouts)


def round_total(config: Config, phases: Sequence[str]) -> int:
    """Most rollouts of these phases of one round together."""
    trained = sum(rollouts(config, phase) for phase in phases if phase != "evaluation")
    evaluated = rollouts(config, "evaluation") if "evaluation" in phases else 0
    return evaluated + (min(trained, config.round_rollouts) if config.round_rollouts else trained)


def plan(config: Config, run: Path | None = None, phases: list[tuple[int, str]] | None = None) -> dict:
    """The plan of these (round, phase), of a whole run unless told otherwise; phases that the run has finished are left
    out. Numbers of rollouts and minutes are upper bounds; None where the rate is not known."""
    everything = [(n, phase) for n in range(config.rounds + 1) for phase in (*(ROLES if n else ()), "evaluation")]
    due = [(n, phase) for n, phase in phases or everything if not (run and run_dir.is_done(run, n, phase))]
    of_round = {number: [phase for n, phase in due if n == number] for number, _ in due}
    counts = Counter(phase for _, phase in due)
    total = sum(round_total(config, found) for found in of_round.values())
    if (0, "evaluation") in due and config.questions:
        total += HOPS * config.eval_per_hop * config.eval_samples
    rate, source = measured_rate(run, config)
    return {
        "run": str(run) if run else None,
        "arm": config.name,
        "seed": config.seed,
        "rounds": config.rounds,
        "base_model": config.base_model,
        "parameters": empty_base(config).num_parameters(),
        "lora_rank": config.lora_rank,
        "corpus": config.corpus,
        "passages": len(load_corpus(config.path(config.corpus))),
        "phases": {
            phase: {"times": counts[phase], "rollouts": rollouts(config, phase)}
            for phase in (*ROLES, "evaluation")
            if counts[phase]
        },
        "rollouts": total,
        "max_episode_tokens": config.max_episode_tokens,
        "rollouts_per_second": rate or None,
        "rate_from": source,
        "minutes": total / rate / 60 if rate else None,
    }


def tell_plan(plan: dict) -> None:
    """On stdout, as text or with `--json` as it is."""
    lines = [
        "{run}: arm {arm}, seed {seed}, {rounds} rounds; nothing is done now",
        "base {base_model}: {parameters:,} parameters, LoRA rank {lora_rank}",
        "corpus {corpus}: {passages:,} passages",
        *(
            f"{due['times']} x {phase.replace('_', ' ')}: at most {due['rollouts']:,} rollouts each"
            for phase, due in plan["phases"].items()
        ),
        "together at most {rollouts:,} rollouts of at most {max_episode_tokens} tokens",
        "about {minutes:.1f} min at most, at {rollouts_per_second:.0f} rollouts/s ({rate_from})"
        if plan["minutes"] is not None
        else "time: {rate_from}",
    ]
    terminal.tell("\n".join(lines).format(**plan | {"run": plan["run"] or "no run folder"}), **plan)


def measured_rate(run: Path | None, config: Config) -> tuple[float, str]:
    """Rollouts a second (0 where unknown), and where this number comes from."""
    rounds = range(1, config.rounds + 1)
    done = [(n, role) for n in rounds for role in ROLES if run and run_dir.is_done(run, n, role)]
    if done:
        spent = [run_dir.facts(run, n, role) for n, role in done]
        played = sum(f["episodes"] + f["judge_calls"] for f in spent)
        return played / sum(f["seconds"] for f in spent), f"{len(done)} finished phases of this run"
    if config.base_model == Config().base_model:
        return TINY_RATE, "the tiny base on two CPU cores"
    return 0, "not known before a phase of this base is finished; run --dry-run again then"
