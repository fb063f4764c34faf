"""The cold start: a LoRA adapter with which SmolLM2-135M knows the protocol and the three roles.

    python -m asl_min.real.cold_start --out build/real/adapter

It imitates demonstrations on Wikipedia, with questions that rules make of its sentences (sound_questions.py), those
that the model itself answers alike with the page before it, and with questions of its own (own_reading.py). A page
costs more to read than a question, so further questions on it follow in the same context. No question of an evaluated
set is among them, and none on an article that such a question rests on. The loss is that of the tiny bases: next-token
cross-entropy over the assistant's tokens, the verdict weighing more.

The adapter sits on layers `FIRST_LAYER` and up, so that no gradient goes further down. The state is saved every
`SAVE_EVERY` steps; a run that was interrupted goes on from there.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import above_zero, argument, start

    base = argument("--base", metavar="NAME", default="build/real/smollm2-135m", help="folder or hub id of the model")
    corpus = argument("--corpus", type=Path, metavar="FILE", default=Path("build/real/articles.jsonl"))
    steps = argument("--steps", type=above_zero(int), default=300, help="optimizer steps (300)")
    out = argument("--out", type=Path, required=True, metavar="DIR", help="folder of the adapter")
    start("asl_min.real.cold_start", __doc__, base, corpus, steps, out)

import json
import random
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import Passage, load_corpus
from asl_min.model import fast_bfloat16, load_base, load_tokenizer, save_adapter
from asl_min.real.drafts import Draft
from asl_min.real.own_reading import agreed, own_answers, own_questions
from asl_min.real.people import asked_by_hash, evaluated_titles, text_hash
from asl_min.real.prose_teacher import ProseTeacher, conversation
from asl_min.real.sound_questions import sound_questions
from asl_min.run import durable, terminal
from asl_min.run.errors import InputError
from asl_min.sampling.generate import Generator
from asl_min.search.bm25 import Bm25Search
from asl_min.world.tiny.train_base import Sample, batches, encode, loss_of

RANK, FIRST_LAYER = 16, 8
"""14 MB in float32 for a model of 30 layers and width 576."""
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a block; peft takes its own word for them only where every block gets an adapter."""
LEARNING_RATE, WARM_UP, TOKENS_PER_BATCH, MAX_TOKENS = 1e-3, 10, 2000, 2048
"""AdamW, falling linearly to 0; padded tokens a step; a longer demonstration is left out."""
FOLLOW_UPS = 4
"""Questions more on a page, at most."""
SAVE_EVERY, SEED = 25, 0
STATE, ANSWERS, QUESTIONS, BEGUN = "state.pt", "own_answers.jsonl", "own_questions.jsonl", "begun.json"
"""Of an unfinished cold start, in the adapter's folder."""
PAGES = 3000
"""Articles, drawn by lot, that the model writes a question about."""


def with_adapter(base: torch.nn.Module) -> PeftModel:
    """The base with a new adapter, which alone is trained."""
    layers = range(min(FIRST_LAYER, base.config.num_hidden_layers - 1), base.config.num_hidden_layers)
    lora = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=list(LINEAR),
        layers_to_transform=list(layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, lora).eval()


def prose_samples(articles: Sequence[Passage], sound: Sequence[Draft], chat: Chat, tokens: int) -> list[Sample]:
    """Demonstrations, of so many tokens in all."""
    teacher, found = ProseTeacher(articles, sound, random.Random(SEED)), []
    while sum(len(s.ids) for s in found) < tokens:
        row = in_one_context([encode(d, chat) for d in conversation(teacher, FOLLOW_UPS)], chat)
        found += [row] if len(row.ids) <= MAX_TOKENS else []
    return found


def in_one_context(samples: Sequence[Sample], chat: Chat) -> Sample:
    """One after the other, each seeing those before it."""
    end = np.array([*chat.turn_end, *chat.plain("\n")], np.int32)
    between = Sample(end, np.zeros(len(end), np.float32))
    parts = [part for sample in samples for part in (between, sample)][1:]
    return Sample(np.concatenate([p.ids for p in parts]), np.concatenate([p.weights for p in parts]))


def endless(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Batches, epoch after epoch, the same ones in every process."""
    rng = random.Random(SEED)
    while True:
        yield from batches(samples, TOKENS_PER_BATCH, rng)


def train(model: PeftModel, samples: list[Sample], steps: int, folder: Path) -> None:
    """Goes on from the state in the folder, where there is one. Products are in bfloat16 where this is fast; weights
    and adapter stay in float32."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, done = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0), 0
    if (file := folder / STATE).is_file():
        state = torch.load(file, weights_only=True)
        set_peft_model_state_dict(model, state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    feed, began = endless(samples), time.time()
    for step, batch in zip(range(steps), feed, strict=False):
        if step < done:
            continue
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / WARM_UP, 1.0) * (1 - step / steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value, seconds = loss.item(), time.time() - began
        terminal.say(f"step {step + 1}/{steps} loss {value:.3f} {seconds:.0f} s", "step", step=step + 1, loss=value)
        if (step + 1) % SAVE_EVERY == 0:
            save_state(model, optimizer, step + 1, file)


def save_state(model: PeftModel, optimizer: torch.optim.Optimizer, step: int, file: Path) -> None:
    state = {"step": step, "adapter": get_peft_model_state_dict(model), "optimizer": optimizer.state_dict()}
    with durable.replacing(file) as opened:
        torch.save(state, opened)


def refuse_other(folder: Path, begun: dict) -> None:
    """Raises `InputError` where an unfinished cold start lies in the folder that began with something else: its answers
    would be another model's."""
    file = folder / BEGUN
    if file.is_file() and (there := json.loads(file.read_text())) != begun:
        raise InputError(f"{folder}: holds an unfinished cold start of {there}, not of {begun}; take another --out")
    durable.write_text(file, json.dumps(begun))


def others(articles: Sequence[Passage]) -> list[Passage]:
    """The articles that no evaluated question asks about."""
    pages = evaluated_titles()
    return [article for article in articles if article.title not in pages]


def allowed(drafts: Sequence[Draft]) -> list[Draft]:
    """Those that no evaluation asks."""
    asked = asked_by_hash()
    return [draft for draft in drafts if text_hash(draft.question) not in asked]


def rule_questions(articles: Sequence[Passage]) -> list[Draft]:
    return allowed(sound_questions(others(articles), Bm25Search(articles, 1), SEED))


def some_pages(articles: Sequence[Passage]) -> list[Passage]:
    found = others(articles)
    return random.Random(SEED).sample(found, min(len(found), PAGES))


def read_by(generator: Generator, articles: Sequence[Passage], sound: Sequence[Draft], folder: Path) -> list[Draft]:
    """The rules' questions that the model answers alike, and its own; none where there are none of the former."""
    leads = {article.title: article.text for article in articles}
    if not (read := agreed(sound, own_answers(generator, sound, leads, folder / ANSWERS))):
        return []
    own = own_questions(generator, some_pages(articles), Bm25Search(articles, 1), folder / QUESTIONS)
    return read + allowed(own)


def main(args: Namespace) -> None:
    articles, config = load_corpus(args.corpus), Config(base_model=args.base)
    if not (sound := rule_questions(articles)):
        raise InputError(f"{args.corpus}: no question can be made of its sentences")
    if args.dry_run:
        terminal.tell(f"{args.out}: would get an adapter, {args.steps} steps, {len(sound)} questions", steps=args.steps)
        return
    torch.manual_seed(SEED)
    chat, tokens = Chat(load_tokenizer(config), config.prompts), args.steps * TOKENS_PER_BATCH
    args.out.mkdir(parents=True, exist_ok=True)
    refuse_other(args.out, {"base": args.base, "corpus": durable.digest(args.corpus), "steps": args.steps})
    reading = replace(config, quantization="bf16")
    if not (read := read_by(Generator(load_base(reading), chat), articles, sound, args.out)):
        raise InputError(f"{args.base}: answers none of {len(sound)} questions as the rules do")
    samples = prose_samples(articles, read, chat, tokens)
    mean = sum(len(s.ids) for s in samples) / len(samples)
    terminal.say(f"{len(samples)} demonstrations, {mean:.0f} tokens each", "samples", n=len(samples), tokens=mean)
    model = with_adapter(load_base(config))
    train(model, samples, args.steps, args.out)
    save_adapter(model, "default", args.out)
    for name in (STATE, ANSWERS, QUESTIONS, BEGUN):
        (args.out / name).unlink(missing_ok=True)
    terminal.tell(str(args.out), adapter=str(args.out), steps=args.steps)
