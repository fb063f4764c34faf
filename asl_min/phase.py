"""What the three training phases share: the loaded backbone, the tool, rollouts as any role, the log, and the gold
guard."""

import secrets
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers, get_available_trackers

from asl_min import roles
from asl_min.chat import Chat
from asl_min.config import Config, gold_keys
from asl_min.corpus import load_corpus, read_jsonl, write_jsonl
from asl_min.episode import Episode, Request
from asl_min.grpo import Learner
from asl_min.model import ROLES, adapter_name, load_backbone, load_tokenizer, merged, save_adapter, use
from asl_min.rollout import Limits, Rollout
from asl_min.run import checkpoint, durable, gold, run_dir, shard, stopping, terminal
from asl_min.run.command import open_run
from asl_min.run.dry_run import plan, tell_plan
from asl_min.run.errors import InputError
from asl_min.run.shard import accelerator_of
from asl_min.sampling.generate import Generator
from asl_min.search.bm25 import SearchTool
from asl_min.tools.share import model_card
from asl_min.world.oracle import Oracle
from asl_min.world.world import GEOGRAPHY

if TYPE_CHECKING:
    from asl_min.sampling.server import Server


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
        self.generator = self._generator()
        limits = Limits(config.max_turns, config.max_turn_tokens, config.max_episode_tokens)
        self.tool = self._search_tool()
        self._rollout = Rollout(self.generator, self.chat, self.tool, limits, config.generation_batch_size)
        self.budget = dict.fromkeys(("episodes", "tokens", "judge_calls", "tool_calls"), 0)

    def _generator(self) -> "Generator | Server":
        if self.config.backend == "local":
            return Generator(self.model, self.chat)
        from asl_min.sampling.server import connect  # the miniature needs none of its packages

        return connect(self.config, self.accelerator, self.model, self.chat)

    def _search_tool(self) -> SearchTool:
        if not self.config.search_url:
            return SearchTool(self.passages, self.config.top_k)
        from asl_min.search.disk import RemoteSearch

        return RemoteSearch(
            self.config.search_url, self.config.top_k, Path(self.config.server_folder) / "searches.sqlite"
        )

    def rollout(
        self, role: str, requests: Sequence[Request], temperature: float | None = None, base: bool = False
    ) -> list[Episode]:
        """One episode a request, played with the role's adapter (`base`: without any) at the training temperature
        unless told otherwise."""
        name = adapter_name(self.config, role)
        use(self.model, name)
        with self._sampled_weights(name, base):
            episodes = self._rollout(requests, self.config.temperature if temperature is None else temperature)
        self.budget["judge_calls" if role == "reward_model" else "episodes"] += len(episodes)
        self.budget["tokens"] += sum(e.n_sampled for e in episodes)
        self.budget["tool_calls"] += sum(e.n_tool_calls for e in episodes)
        return episodes

    def _sampled_weights(self, name: str, base: bool) -> AbstractContextManager:
        if self.config.backend != "local":
            return self.generator.published(name, base)
        return self.model.disable_adapter() if base else merged(self.model, name)

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
        self.oracle = Oracle.of(self.config.oracle) if _oracle_judges(self.config, round_number, role) else None
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
        with gold.training(f"round {round_number}, {role}", open_gold(config, round_number, role)):
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

    def judge(self, pairs: Sequence[tuple[str, str | None]], *seed_key: object) -> list[bool | None]:
        """One verdict for each (question, answer), None where there is no answer: the GRM's, or the oracle's where the
        recipe swaps it in."""
        if self.oracle is None:
            return roles.judge(self.agent.as_role("reward_model"), pairs, *seed_key)
        self.gold_labels += len({pair for pair in pairs if pair[1]})
        return [self.oracle.right(question, answer) if answer else None for question, answer in pairs]

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
        GEOGRAPHY,
        *files,
        *(run_dir.phase_dir(run, r, "evaluation") for r in range(config.rounds + 1)),
        run / "summary.json",
        run / "report",
    )


def open_gold(config: Config, round_number: int, role: str) -> list[Path]:
    """The gold files that the recipe openly gives to this phase of this round; for a zero-label recipe, none."""
    used = gold_keys(config)
    if role == "policy" and used["labelled_questions"]:
        return [config.path(config.labelled_questions)]
    if role == "reward_model" and round_number == config.inject_round:
        return [config.path(config.labelled_judgments)]
    return [GEOGRAPHY] if _oracle_judges(config, round_number, role) else []


def _oracle_judges(config: Config, round_number: int, role: str) -> bool:
    return role != "reward_model" and 0 < config.oracle_from_round <= round_number


def phase_main(args: Namespace, role: str, run_phase: Callable[[Path, int], None]) -> None:
    """What a phase script does: one phase of one round, or its plan."""
    run, config = open_run(args)
    if args.dry_run:
        tell_plan(plan(config, run, [(args.round, role)]))
        return
    with run_dir.lock(run):
        run_phase(run, args.round)
