"""What `--dry-run` says: what a run would do, its size and about how long it takes. Loads names and shapes only."""

from pathlib import Path

from asl_min.config import Config
from asl_min.corpus import load_corpus
from asl_min.model import ROLES, empty_base, load_tokenizer
from asl_min.run import run_dir

TINY_RATE = 100
"""Rollouts a second of the tiny base on two CPU cores, averaged over whole phases."""


def rollouts(config: Config, phase: str) -> int:
    """Most episodes and judge calls of one phase. A draft costs itself, M votes, K attempts and their verdicts; an
    episode of the policy costs itself and a verdict."""
    if phase == "prompt_generator":
        drafts = config.pg_max_steps * config.pg_prompts * config.pg_samples
        return drafts * (1 + config.verify_samples + 2 * config.attempts)
    if phase == "reward_model":
        return config.grm_max_steps * config.grm_prompts * config.grm_samples
    if phase == "policy":
        return 2 * config.policy_max_steps * config.policy_prompts * config.policy_samples
    held_out = 2 * 3 * config.eval_per_hop if config.questions else 0
    judged = 3 * config.eval_judgments if config.judgments else 0
    return held_out + judged + (4 * config.eval_tasks if config.oracle else 0)


def plan(config: Config, run: Path | None = None, phases: list[tuple[int, str]] | None = None) -> str:
    """`plan_facts` as text."""
    return plan_text(plan_facts(config, run, phases))


def plan_facts(config: Config, run: Path | None = None, phases: list[tuple[int, str]] | None = None) -> dict:
    """The plan of these (round, phase), by default of all, without those that the run has finished. JSON can hold it.

    `phases`: how often each is due and its most rollouts; `rate`: rollouts a second, `minutes`: the most that it takes,
    both None where no rate is known; `rate_source`: where the rate comes from. Raises `InputError` if the base or the
    corpus cannot be read."""
    load_tokenizer(config)
    due = due_phases(config, run, phases)
    counts = {phase: sum(p == phase for _, p in due) for phase in (*ROLES, "evaluation")}
    total = sum(count * rollouts(config, phase) for phase, count in counts.items())
    rate, source = measured_rate(run, config)
    return {
        "run": str(run) if run else None,
        "recipe": config.recipe,
        "seed": config.seed,
        "rounds": config.rounds,
        "base_model": config.base_model,
        "parameters": empty_base(config).num_parameters(),
        "lora_rank": config.lora_rank,
        "corpus": config.corpus,
        "passages": len(load_corpus(config.path(config.corpus))),
        "phases": {p: {"due": n, "rollouts_each": rollouts(config, p)} for p, n in counts.items() if n},
        "rollouts": total,
        "max_episode_tokens": config.max_episode_tokens,
        "rate": rate or None,
        "minutes": total / rate / 60 if rate else None,
        "rate_source": source,
    }


def due_phases(config: Config, run: Path | None, phases: list[tuple[int, str]] | None) -> list[tuple[int, str]]:
    """These (round, phase), by default all of a run, without the finished ones."""
    every = [(n, phase) for n in range(config.rounds + 1) for phase in (*(ROLES if n else ()), "evaluation")]
    return [(n, phase) for n, phase in phases or every if not (run and run_dir.is_done(run, n, phase))]


def plan_text(facts: dict) -> str:
    """The facts of `plan_facts`, one to a line."""
    time = f"time: {facts['rate_source']}"
    if facts["rate"]:
        time = f"about {facts['minutes']:.1f} min at most, at {facts['rate']:.0f} rollouts/s ({facts['rate_source']})"
    lines = [
        f"{facts['run'] or 'no run folder'}: recipe {facts['recipe']}, seed {facts['seed']}, {facts['rounds']} rounds; "
        "nothing is done now",
        f"base {facts['base_model']}: {facts['parameters']:,} parameters, LoRA rank {facts['lora_rank']}",
        f"corpus {facts['corpus']}: {facts['passages']:,} passages",
        *(
            f"{of['due']} x {phase.replace('_', ' ')}: at most {of['rollouts_each']:,} rollouts each"
            for phase, of in facts["phases"].items()
        ),
        f"together at most {facts['rollouts']:,} rollouts of at most {facts['max_episode_tokens']} tokens",
        time,
    ]
    return "\n".join(lines)


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
