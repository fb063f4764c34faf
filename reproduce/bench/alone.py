"""asl_min alone: its search beside a plain bm25s loop, its memory over many steps, its rounds, and where the seconds of
sampling go."""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import bm25s
import torch

from asl_min import roles
from asl_min.config import Config
from asl_min.corpus import load_corpus
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import respond
from reproduce.bench.sides import Ours, memory, splits, summarize, timed

HERE = Path(__file__).parents[2]
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_attention_math_for_cpu",
    ),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::index_put_", "aten::_index_put_impl_"),
}


def bench_retrieval(config: Config, pairs: int) -> dict:
    passages = load_corpus(config.path(config.corpus))
    tool, titles = Bm25Search(passages, config.top_k), [p.title for p in passages][:1000]
    index = bm25s.BM25()
    index.index(bm25s.tokenize([f"{p.title} {p.text}" for p in passages], show_progress=False), show_progress=False)

    def plain() -> None:
        for title in titles:
            index.retrieve(bm25s.tokenize(title, show_progress=False), k=config.top_k, show_progress=False)

    def ours() -> None:
        for title in titles:
            respond(tool, [title])

    seconds = [(timed(ours), timed(plain)) for _ in range(pairs)]
    return {
        "retrieval": summarize("queries/s", len(titles), *zip(*seconds, strict=True), names=("asl_min", "bm25s loop"))
    }


def bench_memory(config: Config, _: int) -> dict:
    """Resident MiB of asl_min over 200 policy steps of ever-new questions; it must not grow."""
    ours, (rows, _), rng, found = Ours(config), splits(config), random.Random(0), {}
    for step in range(1, 201):
        ours.step(rng.sample(rows, config.policy_prompts))
        if step in (10, 50, 100, 150, 200):
            found[f"after_{step}_steps"] = memory("VmRSS") // 1024
    return {"resident_mib": found | {"peak": memory("VmHWM") // 1024}}


def bench_round(config: Config, pairs: int, before: Path | None = None) -> dict:
    """Seconds of the three phases of round 1, medians, alternating."""
    sides = {"one_process": (HERE, 1), "two_processes": (HERE, 2)} | ({"before": (before, 1)} if before else {})
    runs = [{name: round_seconds(*side) for name, side in sides.items()} for _ in range(pairs)]
    found = {
        name: {phase: round(statistics.median(run[name][phase] for run in runs), 1) for phase in ROLES}
        for name in sides
    }
    return {
        "round_seconds": {name: phases | {"round": round(sum(phases.values()), 1)} for name, phases in found.items()}
        | {"repeats": pairs}
    }


def round_seconds(checkout: Path, processes: int) -> dict[str, float]:
    """By phase; the steps are those of commit 2c4dde6, which had fewer for the policy."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(max(torch.get_num_threads() // processes, 1))}
        script = [
            "asl_min.rounds",
            "--config",
            str(checkout / "configs" / "tiny.yaml"),
            "--run",
            folder,
            "rounds=1",
            "eval_tasks=1",
            "eval_per_hop=1",
        ]
        script += [
            f"base_model={HERE / Config().base_model}",
            "pg_max_steps=8",
            "grm_max_steps=16",
            "policy_max_steps=6",
        ]
        launcher = ["-m"]
        if processes > 1:  # without the two dashes torchrun would take --run for its own --run-path
            launcher += [
                "torch.distributed.run",
                "--standalone",
                "--local-addr",
                "127.0.0.1",
                "--nproc_per_node",
                str(processes),
                "-m",
                "--",
            ]
        subprocess.run(
            [sys.executable, *launcher, *script],
            check=True,
            capture_output=True,
            cwd=checkout,
            env=os.environ | variables,
        )
        return {
            role: json.loads((Path(folder) / "round_01" / role / "done.json").read_text())["seconds"] for role in ROLES
        }


def bench_profile(config: Config, pairs: int) -> dict:
    """384 policy episodes, the same ones each time: the processor's seconds by kind of operation, and the arithmetic in
    them beside the rate of one large product. How many passes they take depends on the longest of them."""
    agent = Agent(config, {})
    requests = roles.solve_requests([row["question"] for row in splits(config)[0][:64]], 6, config.seed, 1)

    def play() -> list:
        return agent.rollout("policy", requests)

    play()
    seconds = statistics.median(timed(play) for _ in range(pairs))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as profiler:
        play()
    events, spent = profiler.key_averages(), dict.fromkeys([*KINDS, "other"], 0.0)
    for event in events:
        spent[next((kind for kind, names in KINDS.items() if event.key in names), "other")] += (
            event.self_cpu_time_total / 1e6
        )
    x = torch.rand(2048, 2048)
    rate = 2 * 2048**3 / 1e9 / min(timed(lambda: x @ x) for _ in range(10))
    return {
        "profile": {
            "seconds": round(seconds, 2),
            "profiled_cpu_seconds": {kind: round(s, 2) for kind, s in spent.items()},
            "passes": sum(event.count for event in events if event.key == "aten::embedding"),
            "operations": sum(event.count for event in events),
            "gflop": round(sum(event.flops for event in events) / 1e9, 1),
            "gflop_per_s_of_a_large_product": round(rate, 1),
        }
    }
