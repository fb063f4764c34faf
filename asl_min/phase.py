"""What the three training phases share: an agent that acts as any role, and a phase with its update, log and files."""

import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

import numpy as np
import torch

from asl_min import recipes, rewards
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, write_jsonl
from asl_min.episode import Episode, Request, Task, Turn
from asl_min.grpo import Learner
from asl_min.model import ROLES, adapter_name, load_backbone, load_tokenizer, save_adapter, use
from asl_min.rollout import Limits, Rollout
from asl_min.run import checkpoint, gold, run_dir, stopping, terminal
from asl_min.run.checkpoint import Journal, State
from asl_min.run.command import open_run
from asl_min.run.dry_run import plan, tell_plan
from asl_min.run.gold_files import declare_gold
from asl_min.run.machines import copy_run
from asl_min.run.shard import accelerator_of, shard_base
from asl_min.run.trackers import start_trackers
from asl_min.sampling.sampler import open_sampler
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import SearchTool


class Agent:
    """The backbone with its adapters and its search tool: acts as any of the three roles."""

    def __init__(self, config: Config, adapters: dict[str, Path]):
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.accelerator = config, accelerator_of(config)
        self.passages = load_corpus(config.path(config.corpus))
        self.chat = Chat(load_tokenizer(config), config.prompts)
        self.model = load_backbone(config, adapters).to(self.accelerator.device)
        shard_base(self.model, self.accelerator, config)
        self.sampler = open_sampler(config, self.accelerator, self.model, self.chat)
        limits = Limits(config.max_turns, config.max_turn_tokens, config.max_episode_tokens)
        self.tool = self._search_tool()
        self._rollout = Rollout(self.sampler, self.chat, self.tool, limits, config.generation_batch_size)
        self.budget = dict.fromkeys(("episodes", "tokens", "context_tokens", "judge_calls", "tool_calls"), 0)

    def _search_tool(self) -> SearchTool:
        if not self.config.search_url:
            return Bm25Search(self.passages, self.config.top_k)
        from asl_min.search.remote import RemoteSearch  # the miniature does without its packages

        cache = Path(self.config.server_folder) / "searches.sqlite"
        return RemoteSearch(self.config.search_url, self.config.top_k, cache)

    def rollout(
        self, role: str, requests: Sequence[Request], temperature: float | None = None, base: bool = False
    ) -> list[Episode]:
        """One episode for each request, sampled with the role's adapter (`base`: with none). `temperature`: None for
        that of training."""
        name = adapter_name(self.config, role)
        use(self.model, name)
        with self.sampler.serving(name, base):
            episodes = self._rollout(requests, self.config.temperature if temperature is None else temperature)
        self.budget["judge_calls" if role == "reward_model" else "episodes"] += len(episodes)
        self.budget["tokens"] += sum(e.n_sampled for e in episodes)
        self.budget["context_tokens"] += sum(len(e.ids) for e in episodes)
        self.budget["tool_calls"] += sum(e.n_tool_calls for e in episodes)
        return episodes

    def watch(self, on_turn: Callable[[Turn], None]) -> None:
        """From now on `on_turn` gets each turn of an episode as soon as it is written."""
        self._rollout.on_turn = on_turn

    def as_role(self, role: str, temperature: float | None = None) -> Callable[[Sequence[Request]], list[Episode]]:
        """`rollout` with these arguments fixed."""
        return lambda requests: self.rollout(role, requests, temperature)


class Phase:
    """One training phase of one round. Use `Phase.open`."""

    def __init__(self, run: Path, round_number: int, role: str):
        self.run, self.round, self.role, self.start = run, round_number, role, time.time()
        self.config = run_dir.read_config(run)
        self.agent = Agent(self.config, run_dir.latest_adapters(run, self.config, round_number, role))
        self.accelerator = self.agent.accelerator
        self.learner = Learner(self.accelerator, self.agent.model, adapter_name(self.config, role), self.config)
        self.folder = run_dir.phase_dir(run, round_number, role)
        self.recipe = recipes.load(self.config)
        self.gold_labels = 0
        self._spent_before = run_dir.rollouts(run, round_number, ROLES[: ROLES.index(role)])
        self._journal = Journal(self.folder, writes=self.accelerator.is_main_process)
        self.rows = self._journal.rows
        self._steps_before = start_trackers(self.accelerator, run, self.config)
        self._next_step, self._last_episodes, self._clock = 0, [], defaultdict(float)

    @classmethod
    @contextmanager
    def open(cls, run: Path, round_number: int, role: str) -> Iterator["Phase"]:
        """Inside, gold files cannot be opened, except those in `recipe.gold_files`. An interrupted phase goes on from
        its last saved step. At the end of the block the adapter is saved and the phase is done."""
        config = run_dir.read_config(run)
        copy_run(accelerator_of(config), run)
        declare_gold(run, config)
        with gold.training(f"round {round_number}, {role}", recipes.load(config).gold_files(round_number, role)):
            phase = cls(run, round_number, role)
            phase._resume()
            with stopping.on_sigterm():
                yield phase
            phase._finish()
            for tracker in phase.accelerator.trackers:
                tracker.finish()
            phase.accelerator.wait_for_everyone()

    @property
    def seed_key(self) -> tuple:
        return (self.config.seed, self.round, self.role)

    @property
    def rollouts(self) -> int:
        """Episodes of all roles that the phase has played so far, up to its last save also before an interruption."""
        return self.agent.budget["episodes"] + self.agent.budget["judge_calls"]

    @property
    def rollouts_left(self) -> float:
        """What is left of the round's rollouts; infinite where these are not limited."""
        return self.config.round_rollouts - self._spent_before - self.rollouts if self.config.round_rollouts else inf

    def fits(self) -> bool:
        """Is another step expected to fit into what is left? One as dear as the mean of the phase's steps so far; the
        first always. So a round spends less than one step too much, and a phase with a dear first step ends early."""
        steps = len(self.rewards)
        return self.rollouts_left > 0 and self.rollouts_left >= (self.rollouts / steps if steps else 0)

    @property
    def rewards(self) -> list[float]:
        """The reward of each step, as `log` was given it."""
        return [row["reward"] for row in self.rows["metrics"]]

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds the seconds of a block to a part of the current step: rollout, judging or update."""
        start = time.perf_counter()
        yield
        self._clock[part] += time.perf_counter() - start

    def steps(self, total: int | None) -> Iterator[int]:
        """The steps still to do, counted from 0, with a progress bar, as long as the round's rollouts last; None: until
        the caller breaks off. Each is saved as `save_every` says."""
        shown = self.accelerator.is_main_process
        bar = terminal.progress(self._next_step, total, shown, round=self.round, phase=self.role)
        with bar as advance:
            while (total is None or self._next_step < total) and self.fits():
                self._clock.clear()
                yield self._next_step
                self._next_step += 1
                self._save(last=self._next_step == total)
                advance(self.rewards[-1])

    def update(self, groups: list[list[Episode]], advantages: Sequence[np.ndarray] | None = None) -> dict[str, float]:
        """One GRPO step, unless the role is frozen; returns its metrics. `advantages`: [samples] for each group, None:
        those of the rewards. episodes.jsonl gets the episodes of the first and of the last step."""
        metrics = {}
        if self.role not in self.config.frozen:
            with self.timed("update"):
                groups, metrics = self.learner.step(groups, advantages)
        self._last_episodes = [episode.record() for group in groups for episode in group]
        if not self.rewards:
            self.add("episodes", self._last_episodes, remember=False)
        return metrics

    def log(self, step: int, reward: float, metrics: dict) -> None:
        """One line of metrics.jsonl. `reward` decides on the plateau."""
        seconds = {f"seconds_{part}": round(value, 3) for part, value in self._clock.items()}
        row = {"round": self.round, "phase": self.role, "step": step, "reward": reward} | metrics | seconds
        row["rollouts"] = self.rollouts
        self.add("metrics", [row])
        tracked = {f"{self.role}/{key}": value for key, value in row.items() if isinstance(value, int | float)}
        self.accelerator.log(tracked, step=self._steps_before + step)  # does nothing without a tracker

    def add(self, name: str, rows: list[dict], remember: bool = True) -> None:
        """Rows at the end of NAME.jsonl and, if they are to be remembered, of `rows[name]`."""
        self._journal.append(name, rows, remember)

    def write(self, name: str, rows: list[dict]) -> None:
        """NAME.jsonl as a whole."""
        if self.accelerator.is_main_process:
            write_jsonl(self.folder / f"{name}.jsonl", rows)

    def _cost(self) -> dict[str, float]:
        """What the phase has taken so far, the attempts before an interruption included."""
        steps = {"steps": len(self.rewards), "optimizer_steps": self.learner.optimizer_steps}
        seconds = round(time.time() - self.start, 1)
        return steps | self.agent.budget | {"gold_labels": self.gold_labels, "seconds": seconds}

    def _save(self, last: bool) -> None:
        """Save the state after a step, if it is due. After SIGTERM it is, and the process exits here."""
        told, done = stopping.told(self.accelerator), self._next_step
        if told or last or done % self.config.save_every == 0:
            self._journal.save(State(done - 1, self._cost(), self._last_episodes, self.learner.state()))
        if told:
            place = f"round {self.round}, {self.role}: stopped after step {done}"
            stopping.leave(self.accelerator, f"{place}; the same command goes on from here")

    def _resume(self) -> None:
        """Go on from the state of an interrupted attempt, or begin with an empty folder."""
        state = self._journal.load()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._journal.rewind() if state else run_dir.begin(self.run, self.round, self.role)
        self.accelerator.wait_for_everyone()
        if state:
            self.learner.load(state.tensors)
            self.agent.budget |= {key: state.cost[key] for key in self.agent.budget}
            self.gold_labels, self.start = state.cost["gold_labels"], self.start - state.cost["seconds"]
            self._next_step, self._last_episodes = state.step + 1, state.episodes

    def _finish(self) -> None:
        """Save the adapter and mark the phase as done."""
        self.add("episodes", self._last_episodes if len(self.rewards) > 1 else [])
        if self.accelerator.is_main_process:
            save_adapter(self.agent.model, adapter_name(self.config, self.role), self.folder / "adapter")
            run_dir.finish(self.folder, self._cost())
            checkpoint.clear(self.folder)


def verdicts(
    phase: Phase,
    tasks: Sequence[Task],
    answers: Sequence[Sequence[str | None]],
    keys: Sequence[list[str] | None],
    step: int,
) -> list[list[bool | None]]:
    """For each task, a verdict on each of its `answers`: whether it is right by the task's key or, where the keys are
    None, what the judge says."""
    if None not in keys:
        matches = phase.recipe.matches
        return [rewards.matched(own, key, matches) for own, key in zip(answers, keys, strict=True)]
    pairs = [(task.question, answer) for task, own in zip(tasks, answers, strict=True) for answer in own]
    said = iter(phase.recipe.judge(phase, pairs, *phase.seed_key, step, "judge"))
    return [[next(said) for _ in own] for own in answers]


def phase_main(args: Namespace, role: str, run_phase: Callable[[Path, int], None]) -> None:
    """What a phase script does: one phase of one round, or its plan."""
    run, config = open_run(args)
    run_dir.check_round(config, args.round)
    if args.dry_run:
        tell_plan(plan(config, run, [(args.round, role)]))
        return
    with run_dir.lock(run):
        copy_run(accelerator_of(config), run)
        if run_dir.is_done(run, args.round, role):
            run_dir.require(run, args.round, role)
            terminal.tell(f"{role} of round {args.round}: is finished", role=role, round=args.round)
            return
        run_phase(run, args.round)
