"""What a GPU measures, at a real model's shape with random weights (speed and memory do not depend on the values;
nothing is downloaded).

    python -m reproduce.bench.gpu --shape 7b --lengths 2048 4096 10240 --out reproduce/results/gpu.json

For each length one QLoRA update of 8 episodes: tokens a second, peak memory, and the estimate of asl_min.tools.plan
beside it; the same episodes by plain transformers + peft (no chunked logits), and by TRL's trainer where trl is
installed; then the local backend's generation. Not run on a GPU yet; `--shape tiny` runs on a CPU, where no memory is
measured.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.gpu",
        __doc__,
        argument("--shape", choices=("tiny", "0.5b", "3b", "7b"), default="7b"),
        argument("--lengths", type=int, nargs="+", default=[2048, 4096, 10240]),
        argument("--quantization", default="nf4"),
        argument("--out", type=Path),
    )

import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.episode import Episode, FinishReason, Request, Turn
from asl_min.grpo import Learner
from asl_min.model import load_backbone, load_tokenizer
from asl_min.phase import accelerator_of
from asl_min.run import terminal
from asl_min.sampling.generate import Generator
from asl_min.tools.plan import RUNTIME, memory_of
from asl_min.tools.shape import read_shape

SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 2048,
    },
    "0.5b": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151936,
    },
    "3b": {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "intermediate_size": 11008,
        "vocab_size": 151936,
    },
    "7b": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
    },
}
GPU = torch.cuda.is_available()


def random_base(folder: Path, shape: str) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if GPU else "cpu"):
        model = Qwen2ForCausalLM(
            Qwen2Config(**SHAPES[shape], max_position_embeddings=32768, tie_word_embeddings=shape != "7b")
        )
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(Config().path(Config().base_model)).save_pretrained(folder)


def episodes_of(length: int, count: int = 8) -> list[list[Episode]]:
    """Groups of four; of each episode the last three quarters are sampled but for a response in their middle."""
    generator, found = torch.Generator().manual_seed(length), []
    sampled = [length // 4 <= i < length // 2 or i >= 5 * length // 8 for i in range(length)]
    for number in range(count):
        ids = torch.randint(0, 1000, (length,), generator=generator).tolist()
        logprobs = tuple(-7.0 * s for s in sampled)
        found.append(
            Episode(
                Request("policy", {}, number),
                tuple(ids),
                tuple(sampled),
                logprobs,
                (Turn(""),),
                FinishReason.ANSWER,
                float(number % 2),
            )
        )
    return [found[i : i + 4] for i in range(0, count, 4)]


def measured(work: Callable[[], object], tokens: int) -> dict:
    """Of the second call: the first one compiles kernels and makes the optimizer's state. An out-of-memory error is a
    result."""
    try:
        work()
        if GPU:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        work()
        if GPU:
            torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"out_of_memory": True}
    found = {"tokens_per_second": round(tokens / (time.perf_counter() - start), 1)}
    return found | ({"peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if GPU else {})


def update(config: Config, groups: list[list[Episode]]) -> dict:
    """asl_min's update beside plain transformers + peft over the same episodes, one at a time."""
    learner = Learner(accelerator_of(config), load_backbone(config, {}).to("cuda" if GPU else "cpu"), "shared", config)
    tokens = sum(len(e.ids) for group in groups for e in group)
    found = {"asl_min": measured(lambda: learner.step(groups), tokens)}
    estimate = memory_of(replace(config, backend="vllm"), read_shape(config)).total - RUNTIME
    found["plan_gib"] = round(estimate / 2**30, 2)

    def plain() -> None:
        learner.model.train()
        for episode in (e for group in groups for e in group):
            ids = torch.tensor([episode.ids], device=learner.model.device)
            with learner.accelerator.autocast():
                logits = learner.model(ids, use_cache=False).logits[0, :-1].float()
            logprobs = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            weights = torch.tensor(episode.mask[1:], device=logprobs.device) * (1.0 if episode.reward else -1.0)
            (-(logprobs * weights).sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters, 1.0)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        learner.model.eval()

    return found | {"plain_peft": measured(plain, tokens)}


def trl_update(config: Config, groups: list[list[Episode]]) -> dict:
    """One step of TRL's GRPOTrainer on the same episodes, its own settings as in bench.py; loading apart."""
    try:
        from reproduce.bench.bench import Trl
    except ImportError:
        return {}
    try:
        side = Trl(config)
        rows = [{"question": f"q{i}", "golden_answers": []} for i in range(len(groups))]
        seconds = side.train(rows, 2, recorded=groups)
    except (ImportError, torch.OutOfMemoryError) as error:
        return {"trl": {"not_run": type(error).__name__}}
    tokens = sum(len(e.ids) for group in groups for e in group)
    peak = {"peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if GPU else {}
    return {"trl": {"tokens_per_second": round(tokens / seconds[-1], 1)} | peak}


def generation(config: Config, rows: int = 32, context: int = 512, new: int = 256) -> dict:
    model = load_backbone(config, {}).to("cuda" if GPU else "cpu")
    generator = Generator(model, Chat(load_tokenizer(config), "tiny"))
    contexts = [[(7 * i + j) % 1000 + 20 for j in range(context)] for i in range(rows)]
    found = []
    rate = measured(
        lambda: found.append(
            sum(len(c.ids) for c in generator.generate(contexts, list(range(rows)), [new] * rows, 1.0))
        ),
        rows * new,
    )
    return rate | {"rows": rows, "context": context, "new_tokens": found[-1]}


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(
            f"would measure a random {args.shape} model at lengths {args.lengths}",
            shape=args.shape,
            lengths=args.lengths,
        )
        return
    found: dict = {"device": torch.cuda.get_device_name() if GPU else "cpu", "shape": args.shape}
    with tempfile.TemporaryDirectory() as folder:
        random_base(Path(folder), args.shape)
        config = Config(
            base_model=folder,
            quantization=args.quantization,
            gradient_checkpointing=True,
            mixed_precision="bf16" if GPU else "no",
        )
        config = replace(config, policy_prompts=2, policy_samples=4, corpus=str(Config().path(Config().corpus)))
        for length in args.lengths:
            sized = replace(config, max_episode_tokens=length, micro_batch_tokens=length)
            groups = episodes_of(length)
            found[f"update_{length}"] = update(sized, groups) | trl_update(sized, groups)
            print(json.dumps({length: found[f"update_{length}"]}), flush=True)
        found["generation"] = generation(config)
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
