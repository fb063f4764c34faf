"""What several nodes give, for `plan`: hours of a round by part, and which of them more nodes shorten.

N: nodes; P: processes of all nodes, one a GPU; S: generation servers listed in `server_url`; M: micro-batches of an
optimizer step of the policy phase.

    sampling    shorter. Backend local: the tokens at the sampling rate of P GPUs; each process plays its share of the
                prompts, so no more of them help than a step has episodes. A server: at the rate of S times a node's
                GPUs. More nodes of trainers do not help there, more servers do.
    update      shorter. The tokens at the training rate of P GPUs, times P · ceil(M / P) / M: micro-batches are dealt
                out whole, and all processes wait for the one that has most.
    exchange    not shorter; nothing on one node. Each optimizer step sends 2 (N - 1) / N · 4 bytes a parameter of the
                adapter, each rollout 2 (N - 1) / N · 16 bytes a sampled token, since all processes get all episodes.
                With --fsdp also (N - 1) / N of the blocks' weights, three times a micro-batch (forward, recomputed,
                backward).
    publishing  not shorter. After each optimizer step the first process writes the adapter, and every server loads and
                proves it, all at once: 4 bytes a parameter for each server, and 2 s (TGI: 60 s for its restart).

Assumptions, none of them measured: 10 Gbit/s between nodes and to the servers; the same rates on every GPU; equally
long episodes, half of them sampled; the seconds of publishing. Left out: searches; rewards, checkpoints and logs, which
the first process does alone; copies of run folders.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from asl_min.config import Config
from asl_min.tools.shape import Shape

LINK = 10e9 / 8
"""Bytes a second between nodes."""
TOKEN_BYTES = 16
"""Of an episode on its way to the other nodes: id, mask, log-probability."""
LOAD_SECONDS = {"local": 0.0, "vllm": 2.0, "tgi": 60.0}


@dataclass(frozen=True)
class Hours:
    """Of a round, by part."""

    sampling: float
    update: float
    exchange: float
    publishing: float

    @property
    def total(self) -> float:
        return sum(astuple(self))


Work = Mapping[str, int]
"""Of a round, as `plan.work_of` counts it: rollouts, sampled_tokens, trained_tokens."""


def hours_of(
    config: Config, shape: Shape, work: Work, nodes: int, gpus: int, rates: tuple[float, float], fsdp: bool = False
) -> Hours:
    """By the formulas at the top of this file. `gpus`: of each node. `rates`: tokens sampled and trained a second and
    GPU."""
    processes = nodes * gpus
    servers = 0 if config.backend == "local" else 1 if isinstance(config.server_url, str) else len(config.server_url)
    samplers = servers * gpus or min(processes, config.policy_prompts * config.policy_samples)
    batches, steps = micro_batches(config, work), optimizer_steps(config, work)
    waits = processes * -(-batches // processes) / batches
    adapter = 4 * shape.lora
    sent = steps * 2 * adapter + 2 * work["sampled_tokens"] * TOKEN_BYTES
    if fsdp:
        shared = shape.linear * (0.5 if config.quantization == "nf4" else 2 if config.quantization else 4)
        sent += 3 * shared * work["trained_tokens"] / config.micro_batch_tokens / processes
    return Hours(
        sampling=work["sampled_tokens"] / rates[0] / samplers / 3600,
        update=work["trained_tokens"] / rates[1] / processes * waits / 3600,
        exchange=sent * (nodes - 1) / nodes / LINK / 3600,
        publishing=steps / config.minibatches * (adapter * servers / LINK + LOAD_SECONDS[config.backend]) / 3600,
    )


def micro_batches(config: Config, work: Work) -> int:
    """Of an optimizer step of the policy phase."""
    tokens = 2 * work["sampled_tokens"] / work["rollouts"]  # of an episode, prompt and passages too
    tokens *= config.policy_prompts * config.policy_samples / config.minibatches
    return max(int(-(-tokens // config.micro_batch_tokens)), 1)


def optimizer_steps(config: Config, work: Work) -> int:
    """Of a round in which no phase ends early."""
    policy = config.policy_max_steps
    if config.round_rollouts:
        policy = work["rollouts"] // (config.policy_prompts * config.policy_samples)
    return (config.pg_max_steps + config.grm_max_steps + policy) * config.minibatches


def nodes_text(hours: Hours, one: Hours, nodes: int, gpus: int, batches: int) -> str:
    """Both sides as text: all nodes, and one."""
    parts = {
        "sampling": "by the nodes' GPUs, or by the servers that server_url lists",
        "update": f"{batches} micro-batches a step on {nodes * gpus} processes",
        "exchange": "gradients and episodes; more with more nodes",
        "publishing": "of each new adapter to the servers; the same with more nodes",
    }
    lines = [
        f"{nodes} nodes of {gpus} GPU(s): {hours.total:.1f} hours a round, {one.total / hours.total:.2f} times as fast "
        "as one node (what is assumed: asl_min/tools/nodes.py)",
        *(
            f"  {part:<12}{getattr(hours, part):8.2f} hours, on one node {getattr(one, part):.2f}   ({why})"
            for part, why in parts.items()
        ),
    ]
    return "\n".join(lines)
