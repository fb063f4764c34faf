"""What the three training phases share: the loaded backbone, the tool, rollouts as any role, the log, and the gold
guard."""

import argparse
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers, get_available_trackers

from asl_min import recipes, rewards
from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.corpus import load_corpus, read_jsonl, write_jsonl
from asl_min.episode import Episode, Request, Task
from asl_min.grpo import Learner
from asl_min.model import ROLES, adapter_name, load_backbone, load_tokenizer, save_adapter, use
from asl_min.rollout import Limits, Rollout
from asl_min.run import checkpoint, durable, gold, run_dir, shard, stopping, terminal
from asl_min.run.dry_run import plan
from asl_min.run.errors import InputError
from asl_min.run.terminal import clear_errors
from asl_min.sampling.sampler import open_sampler
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import SearchTool
from asl_min.tools.share import model_card


def accelerator_of(config: Config) -> Accelerator:
    """This process among those of the launcher. Accelerate must be told that there is no GPU: else the CPU processes of
    `torchrun` take no notice of each other, and each runs the whole loop."""
    return shard.without_fsdp(cpu=not torch.accelerator.is_available(), mixed_precision=config.mixed_precision)


class Agent:
    """The backbone with its adapters, its tool and its rollouts: acts as any of the three roles."""

    def __init__(self, config: Config, adapters: dict[str, Path]):
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.accelerator = config, accelerator_of(config)
        self.passages = load_corpus(config.path(config.corpus))
        self.chat = Chat(load_tokenizer(config), config.prompts)
        self.model = load_backbone(config, adapters).to(self.accelerator.device)
        shard.shard_base(self.model, self.accelerator, config)
        self.sampler = open_sampler(config, self.accelerator, self.model, self.chat)
        limits = Limits(config.max_turns, config.max_turn_tokens, config.max_episode_tokens)
        self.tool = self._search_tool()
        self._rollout = Rollout(self.sampler, self.chat, self.tool, limits, config.generation_batch_size)
        self.budget = dict.fromkeys(("episodes", "tokens", "judge_calls", "tool_calls"), 0)

    def _search_tool(self) -> SearchTool:
        if not self.config.search_url:
            return Bm25Search(self.passages, self.config.top_k)
        from asl_min.search.remote import RemoteSearch  # the miniature does without its packages

        cache = Path(self.config.server_folder) / "searches.sqlite"
        return RemoteSearch(self.config.search_url, self.config.top_k, cache)

    def rollout(
        self, role: str, requests: Sequence[Request], temperature: float | None = None, base: bool = False
    ) -> list[Episode]:
        """One episode a request, played with the role's adapter (`base`: without any) at the training temperature
        unless told otherwise."""
        name = adapter_name(self.config, role)
        use(self.model, name)
        with self.sampler.serving(name, base):
            episodes = self._rollout(requests, self.config.temperature if temperature is None else temperature)
        self.budget["judge_calls" if role == "reward_model" else "episodes"] += len(episodes)
        self.budget["tokens"] += sum(e.n_sampled for e in episodes)
        self.budget["tool_calls"] += sum(e.n_tool_calls for e in episodes)
        return episodes

    def as_role(self, role: str, temperature: float | None = None) -> Callable[[Sequence[Request]], list[Episode]]:
        return lambda requests: self.rollout(role, requests, temperature)


class Phase:
    """One training phase of one round, from its files to its files. Use `Phase.open`."""

    def __init__(self, run: Path, round_number: int, role: str):
        self.run, self.round, self.role, self.start = run, round_number, role, time.time()
        self.config = run_dir.read_config(run)
        self.agent = Agent(self.config, run_dir.latest_adapters(run, self.config, round_number, role))
        self.accelerator = self.agent.accelerator
        self.learner = Learner(self.accelerator, self.agent.model, adapter_name(self.config, role), self.config)
        self.folder = run_dir.phase_dir(run, round_number, role)
        self.recipe = recipes.load(self.config)
        self.gold_labels = 0
        self._steps_before = start_trackers(self.accelerator, run, self.config)
        self.rewards: list[float] = []
        self.rows: dict[str, list[dict]] = defaultdict(list)
        """The growing files of the phase, by name without ".jsonl"."""
        self._unsaved: dict[str, list[dict]] = defaultdict(list)
        self._last: list[dict] = []
        self._first_step, self._seconds_before, self._clock = 0, 0.0, {}

    @classmethod
    @contextmanager
    def open(cls, run: Path, round_number: int, role: str) -> Iterator["Phase"]:
        """Everything inside is training: gold answers are out of reach, but for what the recipe says. A phase that was
        interrupted goes on after its last finished step. On success the adapter is saved and the phase is done."""
        config = run_dir.read_config(run)
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

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds the seconds of a block to a part of the current step: rollout, judging or update."""
        start = time.perf_counter()
        yield
        self._clock[part] = self._clock.get(part, 0.0) + time.perf_counter() - start

    def steps(self, total: int) -> Iterator[int]:
        """Step numbers from 0, under a progress bar."""
        with terminal.progress(
            self._first_step, total, self.accelerator.is_main_process, round=self.round, phase=self.role
        ) as advance:
            for step in range(self._first_step, total):
                self._clock = {}
                yield step
                self._checkpoint(step)
                advance(self.rewards[-1])

    def update(self, groups: list[list[Episode]], weights: Sequence[float] | None = None) -> dict[str, float]:
        """One GRPO step; keeps the episodes of the first and the last step for the episode file."""
        with self.timed("update"):
            groups, metrics = self.learner.step(groups, weights)
        self._last = [episode.record() for group in groups for episode in group]
        if not self.rewards:
            self.add("episodes", self._last)
        return metrics

    def log(self, step: int, reward: float, metrics: dict) -> None:
        """One line of metrics.jsonl. `reward` is what the plateau rule looks at."""
        self.rewards.append(reward)
        seconds = {f"seconds_{part}": round(value, 3) for part, value in self._clock.items()}
        row = {"round": self.round, "phase": self.role, "step": step, "reward": reward} | metrics | seconds
        self.add("metrics", [row])
        tracked = {f"{self.role}/{key}": value for key, value in row.items() if isinstance(value, int | float)}
        self.accelerator.log(tracked, step=self._steps_before + step)  # to no tracker unless one is configured

    def add(self, name: str, rows: list[dict]) -> None:
        """Rows at the end of NAME.jsonl and of `rows[name]`."""
        self.rows[name] += rows
        self._unsaved[name] += rows

    def write(self, name: str, rows: list[dict]) -> None:
        """NAME.jsonl, as a whole."""
        if self.accelerator.is_main_process:
            write_jsonl(self.folder / f"{name}.jsonl", rows)

    def _facts(self) -> dict:
        """What the phase has cost so far."""
        steps = {"steps": len(self.rewards), "optimizer_steps": self.learner.optimizer_steps}
        return (
            steps
            | self.agent.budget
            | {"gold_labels": self.gold_labels, "seconds": round(self._seconds_before + time.time() - self.start, 1)}
        )

    def _checkpoint(self, step: int) -> None:
        """The state after a step, to the disk; a process that was told to end does so here."""
        if self.accelerator.is_main_process:
            checkpoint.save(
                self.folder,
                step,
                {"rewards": self.rewards, "cost": self._facts(), "last": self._last},
                self.learner.state(),
                self._grown(),
            )
        stopping.leave_if_told(
            self.accelerator,
            f"round {self.round}, {self.role}: stopped after step {step + 1}; the same command goes on from here",
        )

    def _grown(self) -> dict[str, list[dict]]:
        grown, self._unsaved = self._unsaved, defaultdict(list)
        return {f"{name}.jsonl": rows for name, rows in grown.items()}

    def _resume(self) -> None:
        """Take up the state of an interrupted attempt, or begin with an empty folder."""
        found = checkpoint.load(self.folder)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            checkpoint.rewind(self.folder) if found else run_dir.begin(self.run, self.round, self.role)
        self.accelerator.wait_for_everyone()
        if found:
            step, facts, tensors = found
            self.learner.load(tensors)
            self.rewards, self._last, cost = facts["rewards"], facts["last"], facts["cost"]
            self.agent.budget |= {key: cost[key] for key in self.agent.budget}
            self.gold_labels, self._seconds_before, self._first_step = cost["gold_labels"], cost["seconds"], step + 1
            self.rows |= {file.stem: [row for _, row in read_jsonl(file)] for file in self.folder.glob("*.jsonl")}

    def _finish(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.add("episodes", self._last if len(self.rewards) > 1 else [])
        checkpoint.append(self.folder, self._grown())
        adapter = self.folder / "adapter"
        save_adapter(self.agent.model, adapter_name(self.config, self.role), adapter)
        durable.write_text(adapter / "README.md", model_card(self.config, self.round, self.role, adapter))
        run_dir.finish(self.folder, self._facts())
        checkpoint.clear(self.folder)


def start_trackers(accelerator: Accelerator, run: Path, config: Config) -> int:
    """Open the configured tracker, if any, on the run's own line of steps. Returns how many steps the run has done
    before this phase.

    Raises `InputError` where the tracker's package is not installed.
    """
    before = [
        run_dir.facts(run, n, role)["steps"]
        for n in range(1, config.rounds + 1)
        for role in ROLES
        if run_dir.is_done(run, n, role)
    ]
    if config.trackers:
        if config.trackers not in map(str, get_available_trackers()):
            raise InputError(f"trackers: {config.trackers!r} is not installed")
        accelerator.project_configuration.set_directories(str(run / "trackers"))
        accelerator.log_with = filter_trackers(config.trackers, run / "trackers")
        settings = {key: "null" if value is None else value for key, value in asdict(config).items()}
        name = tracked_name(run) if accelerator.is_main_process else run.name
        resumed = {"name": name, "resume": "allow"}
        own = {"wandb": resumed | {"id": name, "dir": str(run / "trackers")}, "trackio": resumed}
        accelerator.init_trackers("asl_min", None if before else settings, own)
    return sum(before)


def tracked_name(run: Path) -> str:
    """What trackers call the run, each phase anew: its folder's name and a few letters, so that no other folder of that
    name joins it there."""
    file = run / "trackers" / "name"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        durable.write_text(file, f"{run.name}-{secrets.token_hex(3)}")
    return file.read_text()


def declare_gold(run: Path, config: Config) -> None:
    """Tell the guard which files hold gold answers or were made with them."""
    names = (config.questions, config.judgments, config.labelled_questions, config.labelled_judgments)
    files = [config.path(name) for name in names if name]
    gold.declare(
        *files,
        *(run_dir.phase_dir(run, r, "evaluation") for r in range(config.rounds + 1)),
        run / "summary.json",
        run / "report",
    )


def verdicts(
    phase: Phase,
    tasks: Sequence[Task],
    answers: Sequence[Sequence[str | None]],
    key: Callable[[Task], list[str] | None],
    step: int,
) -> list[list[bool | None]]:
    """For each task a verdict on each of its `answers`: whether it matches one of `key(task)`; where the recipe has no
    such key, the judge's."""
    keys = [key(task) for task in tasks]
    if None not in keys:
        return [rewards.matched(own, right) for own, right in zip(answers, keys, strict=True)]
    pairs = [(task.question, answer) for task, own in zip(tasks, answers, strict=True) for answer in own]
    said = iter(phase.recipe.judge(phase, pairs, *phase.seed_key, step, "judge"))
    return [[next(said) for _ in own] for own in answers]


def phase_main(role: str, run_phase: Callable[[Path, int], None], description: str) -> None:
    """Command line of a phase script: `--run runs/NAME --round N`."""
    assert role in ROLES
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder, made by asl_min.rounds (or its --prepare)")
    parser.add_argument("--round", type=int, required=True, help="round number, from 1")
    args = terminal.parse(parser)
    with clear_errors():
        config = run_dir.read_config(args.run)
        if args.dry_run:
            print(plan(config, args.run, [(args.round, role)]))
            return
        with run_dir.lock(args.run):
            run_phase(args.run, args.round)
        stopping.end_processes()
