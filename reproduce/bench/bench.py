"""asl_min beside TRL's GRPOTrainer on the tiny base, alternating in one process; medians over pairs and their ratios.

    pip install -e '.[bench]' && python reproduce/bench/bench.py rollout update step accuracy retrieval startup memory --out reproduce/results/bench.json

rollout: multi-turn search episodes a second, 128 and 1024 of them. update: one GRPO step on the same recorded episodes, and the
peak memory of each side in a process of its own. step: rollout, gold exact match as the reward, update. accuracy: seconds of training
until held-out accuracy is reached. retrieval: queries a second beside a plain bm25s loop. startup: seconds of an import. memory:
asl_min alone over 200 steps. round: the phases of round 1 by one process, by two of half the threads, and, with --before, by another checkout
of asl_min (such as `git worktree add ../before 2c4dde6`), with the same base and steps. profile: where the seconds of sampling go, and what
the machine's matrix products would take alone.
"""

import argparse
import json
import os
import pickle
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bm25s
import torch

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, load_questions
from asl_min.evaluate import chosen_per_hop, policy_accuracy
from asl_min.grpo import Learner
from asl_min.model import ROLES, adapter_name, load_backbone, load_tokenizer
from asl_min.phase import Agent
from asl_min.roles import policy
from asl_min.search import SearchTool
from asl_min.text import matches

SIDES = ("asl_min", "trl")
HELD_OUT = 50  # questions a hop that accuracy is measured on
GOAL = 0.55  # mean held-out accuracy at temperature 1
MAX_STEPS = 60
HERE = Path(__file__).parents[2]
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_attention_math_for_cpu"),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::index_put_", "aten::_index_put_impl_"),
}


class Ours:
    """asl_min's rollout, gold reward and update."""

    def __init__(self, config: Config):
        self.agent = Agent(config, {})
        self.learner = Learner(self.agent.accelerator, self.agent.model, adapter_name(config, "policy"), config)
        self.config, self.calls = config, 0

    def rollout(self, questions: list[str], samples: int) -> list:
        self.calls += 1
        return self.agent.rollout("policy", policy.requests(questions, samples, self.config.seed, self.calls))

    def step(self, rows: list[dict]) -> None:
        n = self.config.policy_samples
        episodes = self.rollout([row["question"] for row in rows], n)
        golds = [row["golden_answers"] for row in rows for _ in range(n)]
        scored = [e.with_reward(reward_of(policy.answer(e), gold)) for e, gold in zip(episodes, golds, strict=True)]
        self.learner.step([scored[i : i + n] for i in range(0, len(scored), n)])


def reward_of(answer: str | None, gold: list[str]) -> float:
    """Search-R1's: exact match with a golden answer."""
    return float(matches(answer, gold))


class Trl:
    """TRL's, with the same base, LoRA shape, tool, budgets and reward."""

    def __init__(self, config: Config):
        import trl_side

        self.side, self.config = trl_side, config
        self.chat, self.tool = Chat(load_tokenizer(config), config.prompts), SearchTool(load_corpus(config.path(config.corpus)), config.top_k)
        self.model = load_backbone(config, {})

    def rollout(self, questions: list[str], samples: int) -> dict:
        return self.side.search_rollout(self.model, self.chat, self.tool, self.config, [q for q in questions for _ in range(samples)])

    def train(self, rows: list[dict], steps: int, after: Callable[[int, float], bool] | None = None, recorded: list | None = None) -> list[float]:
        """Seconds of each step; with `recorded` groups of episodes these are what every rollout returns."""
        golds = {row["question"]: row["golden_answers"] for row in rows}

        def play(prompts: list[str]) -> dict:
            if recorded:
                return as_trl([episode for group in recorded for episode in group])
            found = self.side.search_rollout(self.model, self.chat, self.tool, self.config, prompts)
            return found | {"reward": [reward_of(a, golds[q]) for q, a in zip(prompts, found.pop("answer"), strict=True)]}

        clock = self.side.StepClock(after)
        with tempfile.TemporaryDirectory() as folder:
            self.side.trainer_of(self.model, self.chat, self.config, list(golds), play, steps, clock, folder).train()
        self.model.eval()
        return clock.seconds


def as_trl(episodes: list) -> dict:
    """Recorded episodes in the form that a `rollout_func` returns."""
    starts = [e.mask.index(True) for e in episodes]
    return {
        "prompt_ids": [list(e.ids[:n]) for e, n in zip(episodes, starts, strict=True)],
        "completion_ids": [list(e.ids[n:]) for e, n in zip(episodes, starts, strict=True)],
        "env_mask": [[int(m) for m in e.mask[n:]] for e, n in zip(episodes, starts, strict=True)],
        "logprobs": None,
        "reward": [e.reward for e in episodes],
    }


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def summarize(unit: str, amount: float, ours: list[float], theirs: list[float], names: tuple[str, str] = SIDES) -> dict:
    """Medians as a rate (`amount` / seconds), and the median over pairs of how many times faster the first side is."""
    rates = {name: float(f"{amount / statistics.median(seconds):.4g}") for name, seconds in zip(names, (ours, theirs), strict=True)}
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {"unit": unit, **rates, "ratio": round(statistics.median(ratios), 2), "pairs": len(ratios), "ratios": [round(r, 2) for r in ratios]}


def splits(config: Config) -> tuple[list[dict], list[dict]]:
    """Questions to train on and held-out ones: disjoint parts of the target half's."""
    rows = load_questions(config.path(config.questions))
    held = chosen_per_hop(rows, HELD_OUT)
    kept = {row["id"] for row in chosen_per_hop(rows, config.eval_per_hop)}  # what evaluation may ask
    return [row for row in rows if row["id"] not in kept], held


def bench_rollout(config: Config, pairs: int) -> dict:
    ours, theirs, found = Ours(config), Trl(config), {}
    questions = [row["question"] for row in splits(config)[0]]
    for episodes in (128, 1024):
        asked = questions[:: len(questions) // (episodes // 8)][: episodes // 8]
        ours.rollout(asked, 8), theirs.rollout(asked[:8], 8)
        seconds = [(timed(lambda a=asked: ours.rollout(a, 8)), timed(lambda a=asked: theirs.rollout(a, 8))) for _ in range(pairs)]
        found[f"rollout_{episodes}"] = summarize("episodes/s", len(asked) * 8, *zip(*seconds, strict=True))
    tokens = {"asl_min": sum(e.n_sampled for e in ours.rollout(asked, 8)), "trl": sum(map(sum, theirs.rollout(asked, 8)["env_mask"]))}
    return found | {"sampled_tokens_an_episode": {name: round(n / (len(asked) * 8), 1) for name, n in tokens.items()}}


def recorded_groups(config: Config, ours: Ours, rows: list[dict]) -> list[list]:
    n = config.policy_samples
    asked = rows[:: len(rows) // config.policy_prompts][: config.policy_prompts]
    episodes = ours.rollout([row["question"] for row in asked], n)
    scored = [e.with_reward(float(i % n < n // 2)) for i, e in enumerate(episodes)]  # every group has spread: all of it is trained on
    return [scored[i : i + n] for i in range(0, len(scored), n)]


def bench_update(config: Config, pairs: int) -> dict:
    ours, theirs = Ours(config), Trl(config)
    rows, _ = splits(config)
    groups = recorded_groups(config, ours, rows)
    tokens = sum(len(e.ids) for group in groups for e in group)
    ours.learner.step(groups)
    theirs.train(rows, 1, recorded=groups)
    seconds = [(timed(lambda: ours.learner.step(groups)), theirs.train(rows, 1, recorded=groups)[0]) for _ in range(pairs)]
    found = summarize("tokens/s (prompts and responses included)", tokens, *zip(*seconds, strict=True))
    return {"update": found | {"peak_mib": {name: peak_of(name, groups) for name in SIDES}}}


def peak_of(side: str, groups: list[list]) -> int:
    """MiB that three updates on these groups add to a fresh process at their peak."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "groups.pickle"  # our own objects, read back at once
        file.write_bytes(pickle.dumps(groups))
        command = [sys.executable, __file__, f"peak:{side}:{file}"]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_peak(config: Config, side: str, file: str) -> int:
    groups = pickle.loads(Path(file).read_bytes())
    rows, _ = splits(config)
    sided = Ours(config) if side == "asl_min" else Trl(config)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    for _ in range(3):
        sided.learner.step(groups) if side == "asl_min" else sided.train(rows, 1, recorded=groups)
    return (memory("VmHWM") - before) // 1024


def memory(name: str) -> int:
    """A line of Linux's /proc/self/status, KiB."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))


def bench_step(config: Config, pairs: int) -> dict:
    ours, theirs = Ours(config), Trl(config)
    rows, _ = splits(config)
    n = config.policy_prompts
    ours.step(rows[:n]), theirs.train(rows, 1)
    seconds = [(timed(lambda i=i: ours.step(rows[i * n :: len(rows) // n][:n])), theirs.train(rows, 1)[0]) for i in range(pairs)]
    return {"policy_step": summarize("steps/s", 1, *zip(*seconds, strict=True))}


def bench_accuracy(config: Config, seeds: int) -> dict:
    """Seconds of training, evaluation apart (every second step, by asl_min's rollout on both sides), until `GOAL` is reached."""
    runs = [(ours_to_goal(replace(config, seed=seed)), trl_to_goal(replace(config, seed=seed))) for seed in range(seeds)]
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in runs]
    sides = {name: list(found) for name, found in zip(SIDES, zip(*runs, strict=True), strict=True)}
    return {"time_to_accuracy": {"goal": GOAL, **sides, "ratio": round(statistics.median(ratios), 2), "ratios": [round(r, 2) for r in ratios]}}


def ours_to_goal(config: Config) -> dict:
    rows, held = splits(config)
    ours, rng = Ours(config), random.Random(config.seed)
    seconds = accuracy = 0.0
    for step in range(1, MAX_STEPS + 1):
        batch = rng.sample(rows, config.policy_prompts)
        seconds += timed(lambda batch=batch: ours.step(batch))
        accuracy = accuracy_of(ours.agent, held) if step % 2 == 0 else 0.0
        if accuracy >= GOAL:
            break
    return {"seconds": round(seconds, 1), "steps": step, "accuracy": round(accuracy, 3)}


def trl_to_goal(config: Config) -> dict:
    rows, held = splits(config)
    theirs, judge, found = Trl(config), Agent(config, {}), {}

    def after(step: int, seconds: float) -> bool:
        if step % 2:
            return False
        judge.model.load_state_dict({name: p for name, p in theirs.model.state_dict().items() if "lora_" in name}, strict=False)
        found.update(seconds=round(seconds, 1), steps=step, accuracy=round(accuracy_of(judge, held), 3))
        return found["accuracy"] >= GOAL

    theirs.train(rows, MAX_STEPS, after)
    return found


def accuracy_of(agent: Agent, held: list[dict]) -> float:
    return policy_accuracy(agent, held, 1.0)[0]["mean"]


def bench_retrieval(config: Config, pairs: int) -> dict:
    passages = load_corpus(config.path(config.corpus))
    tool, titles = SearchTool(passages, config.top_k), [p.title for p in passages][:1000]
    index = bm25s.BM25()
    index.index(bm25s.tokenize([f"{p.title} {p.text}" for p in passages], show_progress=False), show_progress=False)

    def plain() -> None:
        for title in titles:
            index.retrieve(bm25s.tokenize(title, show_progress=False), k=config.top_k, show_progress=False)

    def ours() -> None:
        for title in titles:
            tool.respond([title])

    seconds = [(timed(ours), timed(plain)) for _ in range(pairs)]
    return {"retrieval": summarize("queries/s", len(titles), *zip(*seconds, strict=True), names=("asl_min", "bm25s loop"))}


def bench_startup(config: Config, pairs: int) -> dict:
    def imports(module: str) -> float:
        return timed(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True))

    seconds = [(imports("asl_min.rounds"), imports("trl; from trl import GRPOTrainer")) for _ in range(pairs)]
    return {"import": summarize("imports/s", 1, *zip(*seconds, strict=True))}


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
    found = {name: {phase: round(statistics.median(run[name][phase] for run in runs), 1) for phase in ROLES} for name in sides}
    return {"round_seconds": {name: phases | {"round": round(sum(phases.values()), 1)} for name, phases in found.items()} | {"repeats": pairs}}


def round_seconds(checkout: Path, processes: int) -> dict[str, float]:
    """By phase; the steps are those of commit 2c4dde6, which had fewer for the policy."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(max(torch.get_num_threads() // processes, 1))}
        script = ["asl_min.rounds", "--config", str(checkout / "configs" / "tiny.yaml"), "--run", folder, "rounds=1", "eval_tasks=1", "eval_per_hop=1"]
        script += [f"base_model={HERE / Config().base_model}", "pg_max_steps=8", "grm_max_steps=16", "policy_max_steps=6"]
        launcher = ["-m"]
        if processes > 1:  # without the two dashes torchrun would take --run for its own --run-path
            launcher += ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc_per_node", str(processes), "-m", "--"]
        subprocess.run([sys.executable, *launcher, *script], check=True, capture_output=True, cwd=checkout, env=os.environ | variables)
        return {role: json.loads((Path(folder) / "round_01" / role / "done.json").read_text())["seconds"] for role in ROLES}


def bench_profile(config: Config, pairs: int) -> dict:
    """384 policy episodes, the same ones each time: the processor's seconds by kind of operation, and the arithmetic in them beside the rate of one
    large product. How many passes they take depends on the longest of them."""
    agent = Agent(config, {})
    requests = policy.requests([row["question"] for row in splits(config)[0][:64]], 6, config.seed, 1)

    def play() -> list:
        return agent.rollout("policy", requests)

    play()
    seconds = statistics.median(timed(play) for _ in range(pairs))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as profiler:
        play()
    events, spent = profiler.key_averages(), dict.fromkeys([*KINDS, "other"], 0.0)
    for event in events:
        spent[next((kind for kind, names in KINDS.items() if event.key in names), "other")] += event.self_cpu_time_total / 1e6
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


BENCHES = {
    "rollout": bench_rollout,
    "update": bench_update,
    "step": bench_step,
    "accuracy": bench_accuracy,
    "retrieval": bench_retrieval,
    "startup": bench_startup,
    "memory": bench_memory,
    "round": bench_round,
    "profile": bench_profile,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benches", nargs="+", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument("--pairs", type=int, default=5, help="alternations (accuracy: seeds)")
    parser.add_argument("--out", type=Path, help="JSON file; results of other benches in it are kept")
    parser.add_argument("--before", type=Path, help="round: folder of another checkout to measure beside")
    args = parser.parse_args()
    config = Config()
    for name in args.benches:
        if name.startswith("peak:"):
            print(measure_peak(config, *name.removeprefix("peak:").split(":", 1)))
            continue
        machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version()}
        more = {"before": args.before} if name == "round" else {}
        found = {"machine": machine} | BENCHES[name](config, args.pairs, **more)
        print(json.dumps(found, indent=1))
        if args.out:
            old = json.loads(args.out.read_text()) if args.out.is_file() else {}
            args.out.write_text(json.dumps(old | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
