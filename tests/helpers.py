"""What several test files build on: tiny models, a scripted generator, hand-made episodes."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from asl_min.chat import Chat
from asl_min.corpus import Passage, write_jsonl
from asl_min.episode import Episode, FinishReason, Request, Turn
from asl_min.model import use
from asl_min.protocol import STOP_STRINGS
from asl_min.run import run_dir
from asl_min.sampling.sampler import Completion, Finish
from asl_min.search.bm25 import Bm25Search
from asl_min.world.tiny.tokenizer import train_tokenizer
from reproduce.bench.loopback import free_port

ROOT = Path(__file__).parents[1]
TEXTS = [
    "Paris is a city in France. Its time zone is Europe/Paris and its population is 2.14 million.",
    "France lies in Europe. The capital is Paris; the largest city is Paris.",
    "solve: What is the capital of France? judge: Which city is the largest of France? answer: Paris",
    "set a task on: France set harder by width: set easier by depth: conclusion: correct conclusion: wrong",
] * 2


def new_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, 420)


def random_model(vocab_size: int, seed: int = 0) -> Qwen2ForCausalLM:
    """Two layers of width 32 with weights wide enough that next tokens are far from uniform."""
    torch.manual_seed(seed)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    }
    config = Qwen2Config(
        vocab_size=vocab_size, max_position_embeddings=1024, tie_word_embeddings=True, initializer_range=0.2, **shape
    )
    config.pad_token_id, config.eos_token_id, config.bos_token_id = 0, 1, None
    return Qwen2ForCausalLM(config).eval()


def bigram_model(vocab_size: int, chain: Sequence[int]) -> Qwen2ForCausalLM:
    """A Qwen2 model that always writes chain[i + 1] after chain[i]: one-hot embeddings, layers that add nothing, a
    table as its head."""
    width = -(-vocab_size // 8) * 8
    shape = {
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 8,
    }
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=vocab_size, tie_word_embeddings=False, **shape)).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(vocab_size, width))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for now, following in pairwise(chain):
            model.lm_head.weight[following, now] = 10.0
    return model


class Scripted:
    """A `Sampler` that writes given turns. Remembers the contexts it was shown, decoded, in
    `seen`.

    A script is either the turns that every episode writes in order, or a function of a context's text and its seed. A
    turn must end with a stop string or the end-of-turn token, or else be long enough to run into `max_new`.
    """

    def __init__(self, chat: Chat, *turns: str, write: Callable[[str, int], str] | None = None):
        self.chat, self.turns, self.write, self.seen = chat, list(turns), write, []

    def serving(self, adapter, base=False):
        return nullcontext()

    def generate(self, contexts, seeds, max_new, temperature, known=None) -> list[Completion]:
        texts = [self.chat.decode(list(context)) for context in contexts]
        self.seen.append(texts)
        turn = "" if self.write else self.turns.pop(0)
        return [
            self._complete(self.write(text, seed) if self.write else turn, room)
            for text, seed, room in zip(texts, seeds, max_new, strict=True)
        ]

    def _complete(self, turn: str, room: int) -> Completion:
        ids = self.chat.tokenizer(turn, add_special_tokens=False)["input_ids"]
        reason = Finish.EOS if ids[-1] in self.chat.eos_ids else Finish.STOP
        if len(ids) > room or not (reason is Finish.EOS or turn.endswith(STOP_STRINGS)):
            ids, reason = ids[:room], Finish.LENGTH
            assert len(ids) == room, f"the script neither ends nor fills its {room} tokens: {turn!r}"
        return Completion(tuple(ids), tuple(-0.5 - 0.001 * i for i in range(len(ids))), reason)


def move(model: nn.Module, adapter: str, seed: int, part: str = "", size: float = 0.2) -> nn.Module:
    """An optimizer step of a kind: an adapter's weights change, all or those of one part; it is the one in use then."""
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if f"{part}.{adapter}." in key:
            parameter.data += size * torch.randn(parameter.shape, generator=generator)
    use(model, adapter)
    return model


def small_tool(top_k: int = 2) -> Bm25Search:
    texts = {
        "Paris": "Paris is a city in France.",
        "France": "France lies in Europe. The capital is Paris.",
        "Rome": "Rome is a city in Italy.",
    }
    return Bm25Search([Passage(str(i), title, text) for i, (title, text) in enumerate(texts.items())], top_k)


def make_episode(seed: int, length: int, sampled: Sequence[int], reward: float = 0.0, vocab_size: int = 300) -> Episode:
    """An episode of random ids whose places `sampled` are the model's."""
    rng = random.Random(seed)
    mask = tuple(i in sampled for i in range(length))
    ids = tuple(rng.randrange(vocab_size) for _ in range(length))
    logprobs = tuple(-5.0 * m for m in mask)
    return Episode(
        Request("policy", {"question": "q"}, seed), ids, mask, logprobs, (Turn("t"),), FinishReason.ANSWER, reward
    )


def make_groups(prompts: int = 4, samples: int = 4, seed: int = 0) -> list[list[Episode]]:
    """Groups of episodes of unlike lengths with two sampled stretches each and rewards of 0 or 1, both in every
    group."""
    rng, groups = random.Random(seed), []
    for prompt in range(prompts):
        group = []
        for sample in range(samples):
            length = rng.randint(20, 90)
            places = [*range(5, 12), *range(15, length)]
            group.append(
                make_episode(seed * 1000 + prompt * 10 + sample, length, places, float(sample % 2 == prompt % 2))
            )
        groups.append(group)
    return groups


def rewrite(file: Path, rows: list[dict]) -> None:
    """Change a file of a finished phase, and its checksum with it."""
    write_jsonl(file, rows)
    run_dir.finish(file.parent, json.loads((file.parent / run_dir.DONE).read_text()))


def launch(*command: str, **variables: str) -> tuple[str, str]:
    """Output (stdout, stderr) of two processes of a script or module under torch.distributed.run, on the CPU, with
    these environment variables besides."""
    two = "torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc_per_node 2 -m -- watched"
    return run_together([[*two.split(), *command]], **variables)[0]


def launch_machines(*commands: Sequence[str]) -> list[tuple[str, str]]:
    """As `launch`, for one process on each of several machines, by accelerate's launcher and the shipped file. They are
    started last machine first, since nothing says which one is up first."""
    port, number = str(free_port()), str(len(commands))
    file = ["accelerate.commands.launch", "--config_file", str(ROOT / "configs" / "accelerate" / "multi_node.yaml")]
    sizes = ["--num_machines", number, "--num_processes", number, "--mixed_precision", "no"]
    address = ["--main_process_ip", "127.0.0.1", "--main_process_port", port]
    of_rank = enumerate(commands)
    launched = [[*file, *sizes, *address, "--machine_rank", str(rank), "-m", *c] for rank, c in of_rank]
    return run_together(launched[::-1])[::-1]


def run_together(commands: Sequence[Sequence[str]], **variables: str) -> list[tuple[str, str]]:
    """Output (stdout, stderr) of each of several `python -m`, on the CPU, that must all end well."""
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "CUDA_VISIBLE_DEVICES": ""}
    environment = {k: v for k, v in os.environ.items() if k != "ACCELERATE_USE_CPU"} | path | variables
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [
        subprocess.Popen([sys.executable, "-m", *c], env=environment, text=True, start_new_session=True, **pipes)
        for c in commands
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]
    except subprocess.TimeoutExpired:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
        raise
    for process, (_, log) in zip(started, said, strict=True):
        assert process.returncode == 0, log[-3000:]
    return said


@contextmanager
def running(app: Callable) -> Iterator[str]:
    """The address at which a server of an ASGI app answers, in a thread."""
    import uvicorn  # for the few tests that need it

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
