"""Before anything runs: memory per GPU by part, tokens and hours a round, disk. Refuses what cannot fit.

    python -m asl_min.tools.plan configs/qwen2.5-7b.yaml --gpus 1 --gib 80

Only the base model's config.json is read; parameters are counted on torch's meta device. With T padded tokens of a
micro-batch (at least one longest episode), L layers, hidden size h, query and key-value widths q and k, MLP width m,
vocabulary V, LoRA rank r, b bytes a value (4, or 2 in bfloat16):

    weights       linear layers of the blocks: 4 or 2 bytes a parameter, nf4 1/2 + 1/64 + 4/(64·256); all others 4 or 2.
    With --fsdp a GPU's share
                  of the former (not of nf4's scales), and two whole blocks: the one that computes and the next
    adapters      4 bytes a parameter, of every adapter;   gradients 4, and AdamW 8, of the one that trains
    activations   T · (L · layer, or with gradient_checkpointing (L + 1) · h · b + layer), and T² · b for a mask of
    trees
        layer     float32: (6h + 3q + 2k + 4m + 7r) · 4;  bfloat16: (9h + 3q + 2k + 4m + 14r) · 2  (norms in float32)
    logits        4 · min(T · V, LOGITS_AT_ONCE) · 4
    sampling      backend local: generation_batch_size · (longest episode · 2kL · b + 24 V); it and the update (activations,
    logits, gradients) take turns runtime       1 GiB for the CUDA context and workspaces: an assumption

Hours rest on two rates that were not measured on GPUs: give your own by --sample-rate and --train-rate (tokens a second
and GPU).
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, argument, start

    start(
        "asl_min.tools.plan",
        __doc__,
        argument("config", type=Path, help="YAML file"),
        argument("--gpus", type=int, help="trainer's GPUs; default: those here, at least one"),
        argument("--fsdp", action="store_true", help="they share the base, as with configs/accelerate/fsdp.yaml"),
        argument(
            "--gib", type=float, help="memory of one GPU; default: of the one here. Not known: no size is refused"
        ),
        argument("--sample-rate", type=float, help="tokens a second and GPU"),
        argument("--train-rate", type=float, help="tokens a second and GPU"),
        OVERRIDES,
    )

from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from asl_min.config import Config
from asl_min.grpo import LOGITS_AT_ONCE
from asl_min.model import ROLES, empty_base, padded
from asl_min.run import terminal
from asl_min.run.command import config_of
from asl_min.run.dry_run import rollouts
from asl_min.run.errors import InputError

GIB = 2**30
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
RUNTIME = 1.0 * GIB
USABLE = 0.95  # of a GPU's memory; the allocator's gaps take the rest
SAMPLE_RATE, TRAIN_RATE = 1000.0, 2000.0
# of the longest episode that is sampled, on average; and half of an episode that is prompt and passages, an assumption
# as well
EPISODE_SHARE = 0.25


@dataclass(frozen=True)
class Shape:
    """What the formulas need of a model: sizes, and parameters of the blocks' linear layers, of their adapters, and of
    the rest."""

    layers: int
    hidden: int
    queries: int
    keys: int
    mlp: int
    vocab: int
    positions: int
    linear: int
    other: int
    lora: int


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU of the trainer."""

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


def shape_of(whole: PreTrainedModel, rank: int) -> Shape:
    model = whole.config
    linears = [
        m
        for name, m in whole.named_modules()
        if isinstance(m, torch.nn.Linear) and m is not whole.get_output_embeddings()
    ]
    linear = sum(m.weight.numel() for m in linears)
    head = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    queries, keys = head * model.num_attention_heads, head * model.num_key_value_heads
    lora = rank * sum(m.in_features + m.out_features for m in linears)
    sizes = (
        model.num_hidden_layers,
        model.hidden_size,
        queries,
        keys,
        model.intermediate_size,
        model.vocab_size,
        model.max_position_embeddings,
    )
    return Shape(*sizes, linear, sum(p.numel() for p in whole.parameters()) - linear, lora)


def memory_of(config: Config, shape: Shape, shards: int = 1) -> Memory:
    """By the formulas above; `shards`: GPUs that share the blocks' weights."""
    low = 2 if config.quantization else 4
    shared, whole = (
        (0.5, NF4_BYTES - 0.5) if config.quantization == "nf4" else (low, 0)
    )  # bytes a parameter; scales of nf4 stay on every GPU
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
    """What autograd keeps of one layer, a token."""
    h, q, k, m = shape.hidden, shape.queries, shape.keys, shape.mlp
    if b == 4:
        return (6 * h + 3 * q + 2 * k + 4 * m + 7 * rank) * 4
    return (9 * h + 3 * q + 2 * k + 4 * m + 14 * rank) * 2


def work_of(config: Config) -> dict[str, int]:
    """Rollouts and tokens of a round at most (no plateau, every task verified)."""
    tasks = config.pg_max_steps * config.pg_prompts * config.pg_samples
    grm = config.grm_max_steps * config.grm_prompts * config.grm_samples
    policy = config.policy_max_steps * config.policy_prompts * config.policy_samples
    sampled, trained = sum(rollouts(config, role) for role in ROLES), tasks + grm + policy
    length = config.max_episode_tokens * EPISODE_SHARE
    return {"rollouts": sampled, "sampled_tokens": int(sampled * length), "trained_tokens": int(trained * 2 * length)}


def disk_of(config: Config, shape: Shape) -> float:
    """Bytes: the base in bfloat16, an adapter a phase, and what a server is given."""
    base, adapter = 2 * (shape.linear + shape.other), 4 * shape.lora
    return (
        base
        + adapter * len(ROLES) * config.rounds
        + {"local": 0, "vllm": 4 * adapter, "tgi": 3 * base + 4 * adapter}[config.backend]
    )


def check_fit(config: Config, shape: Shape, memory: Memory, gib: float | None) -> None:
    """Raises `InputError` for what cannot run, with the part that takes most."""
    if config.max_episode_tokens > shape.positions:
        raise InputError(
            f"key 'max_episode_tokens' is {config.max_episode_tokens}, the base model reads {shape.positions}"
        )
    if gib and memory.total > USABLE * gib * GIB:
        parts = {k: v for k, v in asdict(memory).items() if k != "runtime"}
        most = max(parts, key=parts.get)
        raise InputError(
            f"does not fit: {memory.total / GIB:.1f} GiB are needed, {USABLE * gib:.1f} of {gib:g} GiB usable; most goes to {most} ({parts[most] / GIB:.1f})"
        )


def report(config: Config, shape: Shape, memory: Memory, gpus: int, sample_rate: float, train_rate: float) -> str:
    work = work_of(config)
    lines = [
        f"{config.base_model}: {(shape.linear + shape.other) / 1e9:.2f}B parameters, adapters {shape.lora / 1e6:.1f}M",
        "memory per GPU of the trainer, GiB",
    ]
    lines += [f"  {part:<12}{value / GIB:8.2f}" for part, value in asdict(memory).items()]
    lines += [f"  {'peak':<12}{memory.total / GIB:8.2f}   (sampling and the update take turns)"]
    if config.backend != "local":
        cache = config.generation_batch_size * config.max_episode_tokens * shape.layers * 4 * shape.keys
        lines += [
            f"the {config.backend} server: weights {2 * (shape.linear + shape.other) / GIB:.1f} GiB (bfloat16), KV cache up to {cache / GIB:.1f} GiB"
        ]
    hours = (work["sampled_tokens"] / sample_rate + work["trained_tokens"] / train_rate) / gpus / 3600
    lines += [
        f"a round at most: {work['rollouts']:,} rollouts, {work['sampled_tokens']:,} tokens sampled, {work['trained_tokens']:,} trained on"
    ]
    lines += [
        f"  {hours:.1f} hours on {gpus} GPU(s) at {sample_rate:g} sampled and {train_rate:g} trained tokens a second and GPU (rates assumed, not measured)"
    ]
    return "\n".join(
        [*lines, f"disk: {disk_of(config, shape) / GIB:.1f} GiB for {config.rounds} rounds, corpus and index apart"]
    )


def main(args: Namespace) -> None:
    config = config_of(args.config, None, args.overrides)
    here = torch.cuda.is_available()
    gib = args.gib or (torch.cuda.get_device_properties(0).total_memory / GIB if here else None)
    gpus, rates = args.gpus or max(torch.cuda.device_count(), 1), (args.sample_rate, args.train_rate)
    sample_rate, train_rate = (
        given or default for given, default in zip(rates, (SAMPLE_RATE, TRAIN_RATE), strict=True)
    )
    shape = shape_of(empty_base(config), config.lora_rank)
    memory = memory_of(config, shape, gpus if args.fsdp else 1)
    terminal.tell(
        report(config, shape, memory, gpus, sample_rate, train_rate),
        base_model=config.base_model,
        gpus=gpus,
        bytes_per_gpu=asdict(memory) | {"peak": memory.total},
        bytes_on_disk=disk_of(config, shape),
        **work_of(config),
    )
    check_fit(config, shape, memory, gib)
