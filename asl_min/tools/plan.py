"""Plan a run before it starts: memory per GPU, tokens and hours a round, disk. Refuses what cannot fit.

    python -m asl_min.tools.plan configs/qwen2.5-7b.yaml --gpus 1 --gib 80

Reads only the base model's config.json, from a folder or the hub. The sizes of the models that the shipped configs name
are built in, so that they can be planned without a network. Parameters are counted on torch's meta device.

T: padded tokens of a micro-batch, at least one episode of the greatest length; L: layers; h: hidden size; q, k: widths
of queries and of keys (or values); m: MLP width; V: vocabulary; r: LoRA rank; b: bytes a value, 4, or 2 in bfloat16.

    weights       linear layers of the blocks: 4 or 2 bytes a parameter, nf4 1/2 + 1/64 + 4/(64·256); the rest 4 or 2.
                  With --fsdp each GPU holds its share of these layers (but all of nf4's scales) and two gathered
                  blocks: the one that computes and the next.
    adapters      4 bytes a parameter of every adapter
    gradients     4 bytes a parameter of the adapter that is trained, and 8 for AdamW's state
    activations   T · (L · layer), or with gradient_checkpointing T · ((L + 1) · h · b + layer); and T² · b for the
                  attention mask of packed episodes. Bytes of a layer, a token:
                  float32   (6h + 3q + 2k + 4m + 7r) · 4
                  bfloat16  (6h + 2q + 2k + 4m + 14r) · 2   (norms are computed in float32)
    logits        4 · min(T · V, LOGITS_AT_ONCE) · 4
    sampling      backend local: generation_batch_size · (longest episode · 2kL · b + 24 V). Sampling and the update
                  (activations, logits, gradients) take turns, so only the larger one counts.
    runtime       1 GiB for the CUDA context and workspaces, an assumption

The hours rest on two assumed rates, not measured on GPUs: give your own with --sample-rate and --train-rate (tokens a
second and GPU). What several nodes give: --nodes, and the formulas in `nodes.py`.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, above_zero, argument, start

    start(
        "asl_min.tools.plan",
        __doc__,
        argument("config", type=Path, help="YAML file"),
        argument(
            "--gpus", type=above_zero(int), help="trainer's GPUs, of each node; default: those here, at least one"
        ),
        argument(
            "--nodes",
            type=above_zero(int),
            default=1,
            help="trainer's nodes, as with configs/accelerate/multi_node.yaml",
        ),
        argument("--fsdp", action="store_true", help="they share the base, as with configs/accelerate/fsdp.yaml"),
        argument(
            "--gib",
            type=above_zero(float),
            help="memory of one GPU; default: of the one here. Not known: no size is refused",
        ),
        argument("--sample-rate", type=above_zero(float), help="tokens a second and GPU"),
        argument("--train-rate", type=above_zero(float), help="tokens a second and GPU"),
        OVERRIDES,
    )

from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from asl_min.config import Config
from asl_min.grpo import LOGITS_AT_ONCE
from asl_min.model import ROLES, padded
from asl_min.run import terminal
from asl_min.run.command import config_of
from asl_min.run.dry_run import round_total
from asl_min.run.errors import InputError
from asl_min.tools.nodes import hours_of, micro_batches, nodes_text
from asl_min.tools.shape import Shape, is_built_in, read_shape

GIB = 2**30
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
RUNTIME = 1.0 * GIB
USABLE = 0.95
"""Share of a GPU's memory; fragmentation takes the rest."""
SAMPLE_RATE, TRAIN_RATE = 1000.0, 2000.0
EPISODE_SHARE = 0.25
"""Tokens sampled in an average episode, as a share of `max_episode_tokens`; prompt and passages are as many again. Both
are assumptions."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU of the trainer, by part."""

    weights: float
    adapters: float
    optimizer: float
    gradients: float
    activations: float
    logits: float
    sampling: float
    runtime: float = RUNTIME

    @property
    def total(self) -> float:
        """At the peak: sampling and the update take turns."""
        update = self.gradients + self.activations + self.logits
        return self.weights + self.adapters + self.optimizer + self.runtime + max(update, self.sampling)


def memory_of(config: Config, shape: Shape, shards: int = 1) -> Memory:
    """By the formulas at the top of this file; `shards`: GPUs that share the blocks' weights."""
    low = 2 if config.quantization else 4
    # bytes a parameter that GPUs share, and that each keeps: nf4's scales
    shared, whole = (0.5, NF4_BYTES - 0.5) if config.quantization == "nf4" else (low, 0)
    gathered = 2 / shape.layers if shards > 1 else 0
    weights = shape.linear * (shared * (1 / shards + gathered) + whole) + shape.other * low
    tokens = max(padded(config.max_episode_tokens), config.micro_batch_tokens)
    b = 2 if config.quantization or config.mixed_precision == "bf16" else 4
    layer = layer_bytes(shape, config.lora_rank, b)
    kept = (shape.layers + 1) * shape.hidden * b + layer if config.gradient_checkpointing else shape.layers * layer
    rows = config.generation_batch_size if config.backend == "local" else 0
    cache = config.max_episode_tokens * shape.layers * 2 * shape.keys * low
    return Memory(
        weights=weights,
        adapters=shape.lora * 4 * (len(ROLES) if config.adapters == "per_role" else 1),
        optimizer=shape.lora * 8,
        gradients=shape.lora * 4,
        activations=tokens * kept + tokens**2 * b,
        logits=4 * min(tokens * shape.vocab, LOGITS_AT_ONCE) * 4,
        sampling=rows * (cache + 24 * shape.vocab),
    )


def layer_bytes(shape: Shape, rank: int, b: int) -> int:
    """Bytes that autograd keeps of one layer for each token; `b`: bytes a value."""
    h, q, k, m = shape.hidden, shape.queries, shape.keys, shape.mlp
    if b == 4:
        return (6 * h + 3 * q + 2 * k + 4 * m + 7 * rank) * 4
    return (6 * h + 2 * q + 2 * k + 4 * m + 14 * rank) * 2


def work_of(config: Config) -> dict[str, int]:
    """Most rollouts and tokens of a round: no phase ends early and every task is attempted."""
    tasks = config.pg_max_steps * config.pg_prompts * config.pg_samples
    grm = config.grm_max_steps * config.grm_prompts * config.grm_samples
    policy = config.policy_max_steps * config.policy_prompts * config.policy_samples
    sampled, trained = round_total(config, ROLES), tasks + grm + policy
    if config.round_rollouts:
        trained = config.round_rollouts
    length = config.max_episode_tokens * EPISODE_SHARE
    return {"rollouts": sampled, "sampled_tokens": int(sampled * length), "trained_tokens": int(trained * 2 * length)}


def disk_of(config: Config, shape: Shape) -> float:
    """Bytes: the base in bfloat16, an adapter for each phase, and the weights that a server is given."""
    base, adapter = 2 * (shape.linear + shape.other), 4 * shape.lora
    served = {"local": 0, "vllm": 4 * adapter, "tgi": 3 * base + 4 * adapter}[config.backend]
    return base + adapter * len(ROLES) * config.rounds + served


def check_fit(config: Config, shape: Shape, memory: Memory, gib: float | None) -> None:
    """Raises `InputError` if episodes are longer than the model reads, or if `gib` GiB are too few; the message names
    the largest part."""
    if config.max_episode_tokens > shape.positions:
        raise InputError(
            f"key 'max_episode_tokens' is {config.max_episode_tokens}, the base model reads {shape.positions}"
        )
    if gib and memory.total > USABLE * gib * GIB:
        parts = {k: v for k, v in asdict(memory).items() if k != "runtime"}
        most = max(parts, key=parts.get)
        raise InputError(
            f"does not fit: {memory.total / GIB:.1f} GiB are needed, {USABLE * gib:.1f} of {gib:g} GiB usable; "
            f"most goes to {most} ({parts[most] / GIB:.1f})"
        )


def report(config: Config, shape: Shape, memory: Memory, gpus: int, sample_rate: float, train_rate: float) -> str:
    """The plan as text; rates in tokens a second and GPU."""
    lines = [
        f"{config.base_model}: {count_text(shape.linear + shape.other)} parameters, adapters {count_text(shape.lora)}",
        *(["  (built-in sizes: the model's config.json is not in the hub's cache)"] if is_built_in(config) else []),
        "memory per GPU of the trainer, GiB",
        *(f"  {part:<12}{value / GIB:8.2f}" for part, value in asdict(memory).items()),
        f"  {'peak':<12}{memory.total / GIB:8.2f}   (sampling and the update take turns)",
        *([server_text(config, shape)] if config.backend != "local" else []),
        work_text(config, gpus, sample_rate, train_rate),
        f"disk: {disk_of(config, shape) / GIB:.1f} GiB for {config.rounds} rounds, corpus and index apart",
    ]
    return "\n".join(lines)


def count_text(parameters: int) -> str:
    """A number of parameters in billions, or in millions below 0.1 billion."""
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"


def server_text(config: Config, shape: Shape) -> str:
    """What the generation server's GPU holds, in bfloat16."""
    weights = 2 * (shape.linear + shape.other)
    cache = config.generation_batch_size * config.max_episode_tokens * shape.layers * 4 * shape.keys
    return (
        f"the {config.backend} server: weights {weights / GIB:.1f} GiB (bfloat16), KV cache up to {cache / GIB:.1f} GiB"
    )


def work_text(config: Config, gpus: int, sample_rate: float, train_rate: float) -> str:
    """The rollouts, tokens and hours of a round."""
    work = work_of(config)
    hours = (work["sampled_tokens"] / sample_rate + work["trained_tokens"] / train_rate) / gpus / 3600
    return (
        f"a round at most: {work['rollouts']:,} rollouts, {work['sampled_tokens']:,} tokens sampled, "
        f"{work['trained_tokens']:,} trained on\n"
        f"  {hours:.1f} hours on {gpus} GPU(s) at {sample_rate:g} sampled and {train_rate:g} trained tokens a second "
        "and GPU (rates assumed, not measured)"
    )


def main(args: Namespace) -> None:
    config = config_of(args.config, None, args.overrides)
    here = torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else None
    gib, gpus = here if args.gib is None else args.gib, args.gpus or max(torch.cuda.device_count(), 1)
    sample_rate, train_rate = args.sample_rate or SAMPLE_RATE, args.train_rate or TRAIN_RATE
    shape = read_shape(config)
    memory = memory_of(config, shape, args.nodes * gpus if args.fsdp else 1)
    text, more = report(config, shape, memory, gpus, sample_rate, train_rate), {}
    if args.nodes > 1:
        work, rates = work_of(config), (sample_rate, train_rate)
        if not work["rollouts"]:
            raise InputError("--nodes: a round without rollouts cannot be planned for; no phase has a step")
        one, several = (hours_of(config, shape, work, n, gpus, rates, args.fsdp) for n in (1, args.nodes))
        text += "\n" + nodes_text(several, one, args.nodes, gpus, micro_batches(config, work))
        more = {"nodes": args.nodes, "hours": asdict(several), "hours_of_one_node": asdict(one)}
    terminal.tell(
        text,
        base_model=config.base_model,
        gpus=gpus,
        bytes_per_gpu=asdict(memory) | {"peak": memory.total},
        bytes_on_disk=disk_of(config, shape),
        **work_of(config),
        **more,
    )
    check_fit(config, shape, memory, gib)
