"""The two sides of a comparison, asl_min and TRL's GRPOTrainer: the same base, adapter, tool, batch and reward; and
what benches measure with."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from asl_min import roles
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import in_split, load_corpus, load_questions
from asl_min.grpo import Learner
from asl_min.model import adapter_name, load_backbone, load_tokenizer
from asl_min.phase import Agent
from asl_min.rewards import exact_match
from asl_min.search.bm25 import Bm25Search

SIDES = ("asl_min", "trl")
HELD_OUT = 50  # questions a hop that accuracy is measured on


class Ours:
    """asl_min's rollout, gold reward and update."""

    def __init__(self, config: Config):
        self.agent = Agent(config, {})
        self.learner = Learner(self.agent.accelerator, self.agent.model, adapter_name(config, "policy"), config)
        self.config, self.calls = config, 0

    def rollout(self, questions: list[str], samples: int) -> list:
        self.calls += 1
        return self.agent.rollout("policy", roles.solve_requests(questions, samples, self.config.seed, self.calls))

    def step(self, rows: list[dict]) -> None:
        n = self.config.policy_samples
        episodes = self.rollout([row["question"] for row in rows], n)
        golds = [row["golden_answers"] for row in rows for _ in range(n)]
        scored = [e.with_reward(reward_of(roles.answer_of(e), gold)) for e, gold in zip(episodes, golds, strict=True)]
        self.learner.step([scored[i : i + n] for i in range(0, len(scored), n)])


class Trl:
    """TRL's, with the same base, LoRA shape, tool, budgets and reward."""

    def __init__(self, config: Config):
        from reproduce.bench import trl_side  # the benches of asl_min alone do without TRL

        self.side, self.config = trl_side, config
        self.chat, self.tool = (
            Chat(load_tokenizer(config), config.prompts),
            Bm25Search(load_corpus(config.path(config.corpus)), config.top_k),
        )
        self.model = load_backbone(config, {})

    def rollout(self, questions: list[str], samples: int) -> dict:
        return self.side.search_rollout(
            self.model, self.chat, self.tool, self.config, [q for q in questions for _ in range(samples)]
        )

    def train(
        self,
        rows: list[dict],
        steps: int,
        after: Callable[[int, float], bool] | None = None,
        recorded: list | None = None,
    ) -> list[float]:
        """Seconds of each step; with `recorded` groups of episodes these are what every rollout returns."""
        golds = {row["question"]: row["golden_answers"] for row in rows}

        def play(prompts: list[str]) -> dict:
            if recorded:
                return as_trl([episode for group in recorded for episode in group])
            found = self.side.search_rollout(self.model, self.chat, self.tool, self.config, prompts)
            return found | {
                "reward": [reward_of(a, golds[q]) for q, a in zip(prompts, found.pop("answer"), strict=True)]
            }

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


def reward_of(answer: str | None, gold: list[str]) -> float:
    """Search-R1's: exact match with a golden answer."""
    return float(exact_match(answer, gold))


def splits(config: Config) -> tuple[list[dict], list[dict]]:
    """Questions to train on and held-out ones: disjoint parts of the target half's."""
    rows = load_questions(config.path(config.questions))
    held = in_split(rows, HELD_OUT, per_hop=True)
    kept = {row["id"] for row in in_split(rows, config.eval_per_hop, per_hop=True)}  # what evaluation may ask
    return [row for row in rows if row["id"] not in kept], held


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def summarize(unit: str, amount: float, ours: list[float], theirs: list[float], names: tuple[str, str] = SIDES) -> dict:
    """Medians as a rate (`amount` / seconds), and the median over pairs of how many times faster the first side is."""
    rates = {
        name: float(f"{amount / statistics.median(seconds):.4g}")
        for name, seconds in zip(names, (ours, theirs), strict=True)
    }
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "unit": unit,
        **rates,
        "ratio": round(statistics.median(ratios), 2),
        "pairs": len(ratios),
        "ratios": [round(r, 2) for r in ratios],
    }


def memory(name: str) -> int:
    """A line of Linux's /proc/self/status, KiB."""
    return next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    )
