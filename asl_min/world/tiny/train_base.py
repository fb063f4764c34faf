"""Train tiny base models: a Qwen2 model that imitates a teacher in alternate worlds, in four stages.

    python -m asl_min.world.tiny.train_base skill --out build/skill
    python -m asl_min.world.tiny.train_base judging --start build/skill/step_1800 --out build/judging
    python -m asl_min.world.tiny.train_base practice --start build/judging/step_1500 --out build/practice
    python -m asl_min.world.tiny.train_base noise --start build/practice/step_900 --dials dials.yaml --out build/b01

The first learns the skills from a teacher without errors, once for all bases. The second goes on with drills in
comparing (`drills.py`) among the demonstrations, so that verdicts leave chance. The third practises all of it with a
falling learning rate. These leave a checkpoint every `CHECKPOINT` steps. The fourth imitates a teacher with the errors
that `dials.yaml` says (keys of `teacher.Noise`), so that dials can be turned without learning to read again. A stage
that is interrupted begins again.

The loss is next-token cross-entropy over the assistant's tokens; the token that holds a verdict weighs
`VERDICT_WEIGHT`, since it is one token among fifty and the last skill to appear. In the first three stages prompts and
pages weigh a little too: their names occur several times, and to predict them is to learn to copy. Nothing of the
target half is seen.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "asl_min.world.tiny.train_base",
        __doc__,
        argument("stage", choices=("skill", "judging", "practice", "noise")),
        argument("--start", type=Path, metavar="DIR", help="checkpoint of the stage before"),
        argument("--dials", type=Path, metavar="FILE", help="YAML of the noise's dials"),
        argument("--seed", type=int, default=0, help="of the demonstrations of the noise stage (default: 0)"),
        argument("--out", type=Path, required=True, metavar="DIR"),
    )

import random
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from asl_min.chat import Chat
from asl_min.config import read_yaml
from asl_min.corpus import refuse_no_file
from asl_min.model import hidden_states, logits_of
from asl_min.protocol import ANSWER_CLOSE
from asl_min.run import durable, terminal
from asl_min.run.errors import InputError
from asl_min.world.passages import passages
from asl_min.world.tiny.alternate import alternate_world
from asl_min.world.tiny.drills import drill
from asl_min.world.tiny.muon import Muon
from asl_min.world.tiny.teacher import NO_NOISE, Demonstration, Noise, Teacher, demonstrate
from asl_min.world.tiny.tokenizer import train_tokenizer
from asl_min.world.world import load_world

VOCAB_SIZE, MAX_TOKENS, VERDICT_WEIGHT = 1536, 896, 6.0
ARCHITECTURE = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 384,
    "max_position_embeddings": 1536,
    "tie_word_embeddings": True,
}
PER_WORLD, TOKENS_PER_BATCH, CHECKPOINT, SHORT = 330, 9000, 300, 256


@dataclass(frozen=True)
class Stage:
    """How long a stage trains, in how many worlds; the learning rate warms up over 50 steps and falls linearly over the
    last `decay` share. The first `short_steps` see samples of at most `SHORT` tokens; `context` weighs the tokens that
    are not the assistant's."""

    steps: int
    lr: float
    decay: float
    worlds: int
    elsewhere: float
    context: float = 0.0
    short_steps: int = 0
    drills: int = 0


STAGES = {
    "skill": Stage(steps=1800, lr=3e-3, decay=0.0, worlds=170, elsewhere=0.5, context=0.1, short_steps=400),
    "judging": Stage(
        steps=1500, lr=3e-3, decay=0.0, worlds=85, elsewhere=0.5, context=0.1, short_steps=300, drills=120
    ),
    "practice": Stage(steps=1500, lr=3e-3, decay=1.0, worlds=85, elsewhere=0.5, context=0.1, drills=40),
    "noise": Stage(steps=120, lr=1e-3, decay=1.0, worlds=10, elsewhere=0.75),
}


@dataclass(frozen=True)
class Sample:
    """Token ids and loss weights, both [length]."""

    ids: np.ndarray
    weights: np.ndarray


def encode(demonstration: Demonstration, chat: Chat, context: float = 0.0) -> Sample:
    """A demonstration exactly as a rollout would lay it out; `context`: the weight of prompt and tool responses."""
    ids = chat.prompt(demonstration.prompt, **demonstration.fields)
    weights = [context] * len(ids)
    for text, response in demonstration.turns:
        turn = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids, weights = ids + turn, weights + [1.0] * len(turn)
        if response is not None:
            glue = chat.tool_response(response, turn_ended=False)
            ids, weights = ids + glue, weights + [context] * len(glue)
    if demonstration.prompt == "judge":
        weights[verdict_place(chat)] = VERDICT_WEIGHT
    return Sample(np.array(ids, np.int32), np.array(weights, np.float32))


def encode_drill(lines: list[str], chat: Chat) -> Sample:
    """Of a drill the verdicts alone carry loss."""
    ids, weights, place = [], [], verdict_place(chat)
    for line in lines:
        turn = chat.tokenizer(line, add_special_tokens=False)["input_ids"]
        ids, weights = ids + turn, weights + [0.0] * len(turn)
        weights[place] = VERDICT_WEIGHT
    return Sample(np.array(ids, np.int32), np.array(weights, np.float32))


def verdict_place(chat: Chat) -> int:
    """Where the verdict's token stands in the judge's last turn, from its end: before the closing tag."""
    return -1 - len(chat.tokenizer(ANSWER_CLOSE, add_special_tokens=False)["input_ids"])


def teachers(n_worlds: int, seed: int, noise: Noise, elsewhere: float, stream: str = "") -> Iterator[Teacher]:
    """A teacher in each of so many alternate worlds; `stream` tells random streams of one seed apart."""
    for number in range(n_worlds):
        world, rng = alternate_world(seed * 100_000 + number), random.Random(f"{stream}{seed}/{number}")
        yield Teacher(world, rng, noise, elsewhere)


def demonstrations(n_worlds: int, per_world: int, seed: int, noise: Noise, elsewhere: float) -> list[Demonstration]:
    return [demonstrate(t) for t in teachers(n_worlds, seed, noise, elsewhere) for _ in range(per_world)]


def tokenizer_texts(seed: int) -> list[str]:
    """The base half's passages, and passages and demonstrations of many alternate worlds, so that no invented name is
    one token."""
    worlds = [load_world("base"), *(alternate_world(seed * 100_000 + 50_000 + n) for n in range(40))]
    texts = [row["contents"] for world in worlds for row in passages(world)]
    for demonstration in demonstrations(16, 100, seed + 1, NO_NOISE, 0.5):
        texts += [*demonstration.fields.values(), *(text for text, _ in demonstration.turns)]
    return texts


def batches(samples: list[Sample], tokens_per_batch: int, rng: random.Random) -> list[list[Sample]]:
    """Batches of samples of like length, padded size at most `tokens_per_batch`, in random order."""
    order = sorted(rng.sample(samples, len(samples)), key=lambda s: len(s.ids) // 16)
    found, batch = [], []
    for sample in order:
        if batch and (len(batch) + 1) * (len(sample.ids) // 16 + 1) * 16 > tokens_per_batch:
            found, batch = [*found, batch], []
        batch.append(sample)
    return rng.sample([*found, batch], len(found) + 1)


def collate(batch: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """ids and weights, each [batch, longest rounded up to 16], padded on the right (so causal attention needs no
    mask)."""
    length = -(-max(len(s.ids) for s in batch) // 16) * 16
    ids, weights = torch.zeros(len(batch), length, dtype=torch.long), torch.zeros(len(batch), length)
    for row, sample in enumerate(batch):
        ids[row, : len(sample.ids)] = torch.from_numpy(sample.ids)
        weights[row, : len(sample.ids)] = torch.from_numpy(sample.weights)
    return ids, weights


def loss_of(model: PreTrainedModel | PeftModel, batch: list[Sample]) -> torch.Tensor:
    """In float32: bfloat16 is no faster on many CPUs, and far slower on some."""
    ids, weights = collate(batch)
    hidden = hidden_states(model, ids)[:, :-1]
    carries_loss = weights[:, 1:] > 0
    logits = logits_of(model, hidden[carries_loss])
    losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:][carries_loss], reduction="none")
    return (losses * weights[:, 1:][carries_loss]).sum() / weights.sum()


def optimizers(model: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding, biases and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def train(
    model: Qwen2ForCausalLM, samples: list[Sample], stage: Stage, seed: int, on_step: Callable[[int, float], None]
) -> None:
    rng, step = random.Random(seed), 0
    opts, short = optimizers(model, stage.lr), [sample for sample in samples if len(sample.ids) <= SHORT]
    while step < stage.steps:
        for batch in batches(short if step < stage.short_steps else samples, TOKENS_PER_BATCH, rng):
            falling = (stage.steps - step) / (stage.decay * stage.steps) if stage.decay else 1.0
            for group in (group for opt in opts for group in opt.param_groups):
                group["lr"] = stage.lr * min(1.0, (step + 1) / 50, falling)
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for opt in opts:
                opt.step()
                opt.zero_grad()
            step += 1
            on_step(step, loss.item())
            if step in (stage.short_steps, stage.steps):
                break


def new_model() -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = train_tokenizer(tokenizer_texts(0), VOCAB_SIZE)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **ARCHITECTURE, **ids)), tokenizer


def samples_of(stage: Stage, seed: int, noise: Noise, chat: Chat) -> list[Sample]:
    """Demonstrations and drills, those that are too long left out."""
    shown = demonstrations(stage.worlds, PER_WORLD, seed, noise, stage.elsewhere)
    samples = [encode(demonstration, chat, stage.context) for demonstration in shown]
    if stage.drills:
        drilled = teachers(stage.worlds, seed, noise, stage.elsewhere, "drill/")
        samples += [encode_drill(drill(t), chat) for t in drilled for _ in range(stage.drills)]
    return [sample for sample in samples if len(sample.ids) <= MAX_TOKENS]


def read_dials(file: Path) -> Noise:
    """Raises `InputError` where a dial is missing, unknown or no probability."""
    refuse_no_file(file)
    values = read_yaml(file.read_bytes(), str(file))
    names = set(Noise.__dataclass_fields__)
    if not isinstance(values, dict) or set(values) != names:
        raise InputError(f"{file}: expected the dials {', '.join(sorted(names))}, found {values!r}")
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{file}: key {name!r} is {value!r}, must be a probability")
    return Noise(**values)


def main(args: Namespace) -> None:
    stage, noise = STAGES[args.stage], NO_NOISE
    if args.stage != "skill" and not args.start:
        raise InputError(f"stage {args.stage}: needs --start")
    if args.stage == "noise":
        if not args.dials:
            raise InputError("stage noise: needs --dials")
        noise = read_dials(args.dials)
    if args.dry_run:
        terminal.tell(f"{args.out}: would get the stage {args.stage}, {stage.steps} steps")
        return
    seed = {"skill": 0, "judging": 500, "practice": 501, "noise": 1_000 + args.seed}[args.stage]
    torch.manual_seed(seed)
    if args.start:
        model = Qwen2ForCausalLM.from_pretrained(args.start, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(args.start)
    else:
        model, tokenizer = new_model()
    samples = samples_of(stage, seed, noise, Chat(tokenizer, "tiny"))
    mean = sum(len(s.ids) for s in samples) / len(samples)
    print(f"{len(samples)} samples, {mean:.0f} tokens each, {model.num_parameters():,} parameters", flush=True)
    losses, start = [], time.time()

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 50 == 0:
            print(f"step {step} loss {np.mean(losses[-50:]):.4f} {time.time() - start:.0f} s", flush=True)
        if args.stage != "noise" and step % CHECKPOINT == 0:
            with durable.new_folder(args.out / f"step_{step}") as folder:
                save(model, tokenizer, folder)

    train(model, samples, stage, seed, on_step)
    if args.stage == "noise":
        save(model, tokenizer, args.out)


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
