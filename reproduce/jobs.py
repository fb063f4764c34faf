"""One run of an experiment: a base, an arm, a seed and the settings of all its runs; where it lives and what is kept of
it.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from asl_min.config import Config, load_config, read_yaml
from asl_min.corpus import refuse_no_file
from asl_min.run.durable import digest, write_text
from asl_min.run.errors import InputError
from reproduce.records import base_name, compact, dump, read_summary, run_name

ROOT = Path(__file__).parents[1]
SHIPPED, RECORDED, REBUILT, REAL = "asl_min/world/tiny/bases", "reproduce/bases", "build/bases", "build/real"
"""Where bases lie, relative to the repository: a few are shipped, those that the record needs besides lie beside it,
others are rebuilt; real ones are prepared."""
WEIGHTS = "model.safetensors"
ARMS, TINY = ROOT / "configs" / "arms", "tiny.yaml"


def base_folder(name: str) -> str:
    """A base's folder, relative to the repository; it need not exist."""
    there = (f"{place}/{name}" for place in (SHIPPED, RECORDED, REAL) if (ROOT / place / name).is_dir())
    return next(there, f"{REBUILT}/{name}")


def refuse_missing_base(name: str) -> None:
    """Raises `InputError` where the base is nowhere."""
    if not (ROOT / base_folder(name) / "config.json").is_file():
        raise InputError(
            f"base {name!r}: neither in {SHIPPED} nor in {RECORDED}, {REBUILT} or {REAL}; `make population` rebuilds "
            "the tiny bases, `make real` prepares the real one"
        )


def weights_of(name: str) -> str | None:
    """SHA-256 of a base's weights; None where they are not here."""
    file = ROOT / base_folder(name) / WEIGHTS
    return once_digested(file) if file.is_file() else None


once_digested = cache(digest)


def other_weights(summary: dict, base: str) -> str | None:
    """What is wrong where a run was made on other weights than the base of that name has now: one that was trained
    again, on another processor, is another base."""
    old, new = summary.get("base_weights"), weights_of(base)
    if None in (old, new) or old == new:
        return None
    return f"of a base {base} with weights {old[:12]}, those of {base_folder(base)} are {new[:12]}"


def refuse_missing_files(job: "Job") -> None:
    """Raises `InputError` where a file is missing that the run would read, hours after the first one began perhaps."""
    config = job.config()
    for key in ("corpus", "questions", "judgments", "labelled_questions"):
        if (value := getattr(config, key)) and not config.path(value).is_file():
            more = f"; `make real PEOPLE=FOLDER` makes those of {REAL}" if value.startswith(REAL) else ""
            raise InputError(f"{job.name}: key {key!r}: {value}: no such file{more}")


def config_of(base: str, arm: str, seed: int, settings: dict[str, object], over: str | None = None) -> Config:
    """The config of a run. `over`: the config, by its path in the repository, that an arm is put over in place of
    `TINY`. Raises `InputError` on an unknown arm, key or value."""
    file = ARMS / f"{arm}.yaml"
    own = arm_values(arm) if over else {}
    config = load_config(ROOT / over if over else file, **own | settings, base_model=base_folder(base), seed=seed)
    if config.name != arm:
        raise InputError(f"{file}: key 'arm' is {config.arm!r}; its runs are named {config.name!r}, not {arm!r}")
    return config


def arm_values(arm: str) -> dict[str, object]:
    """What an arm sets over `TINY`, with its name. Raises `InputError` where there is no such arm."""
    file, values = ARMS / f"{arm}.yaml", {}
    while file.name != TINY:
        refuse_no_file(file)
        own = read_yaml(file.read_bytes(), str(file))
        file, values = file.parent / own.pop("extends"), own | values
    return {"arm": arm} | values


def differences(recorded: dict, config: Config) -> dict[str, tuple[object, object]]:
    """Keys whose recorded value differs from what the config asks for, with both values. Bases are compared by
    name."""
    old, new = asdict(Config()) | recorded, asdict(config)
    old["base_model"], new["base_model"] = base_name(old["base_model"]), base_name(new["base_model"])
    return {key: (old[key], value) for key, value in new.items() if old[key] != value}


@dataclass(frozen=True)
class Job:
    """`run`: its folder; `result`: the file that keeps its summary; `preregistered`: digest of the file that asked for
    it, noted in the summary; `over`: as in `config_of`."""

    base: str
    arm: str
    seed: int
    settings: dict[str, object] = field(compare=False)
    run: Path
    result: Path
    preregistered: str | None = None
    over: str | None = None

    @property
    def name(self) -> str:
        return run_name(self.base, self.arm, self.seed)

    def config(self) -> Config:
        return config_of(self.base, self.arm, self.seed, self.settings, self.over)

    def command(self) -> list[str]:
        own = arm_values(self.arm) if self.over else {}
        given = {"seed": self.seed, "base_model": base_folder(self.base)} | own | self.settings
        words = [f"{key}={json.dumps(value)}" for key, value in given.items()]
        file = ROOT / self.over if self.over else ARMS / f"{self.arm}.yaml"
        return [sys.executable, "-m", "asl_min.rounds", "--config", str(file), "--run", str(self.run), *words]

    def is_finished(self) -> bool:
        """Is its summary kept? Raises `InputError` where the kept one is of other settings or of a base with other
        weights."""
        if not self.result.is_file():
            return False
        summary = read_summary(self.result)
        if reason := other_weights(summary, self.base):
            raise InputError(f"{self.result}: {reason}; move it away to run the arm again")
        for key, (old, new) in differences(summary["config"], self.config()).items():
            was = f"of a run with {key} = {old!r}, now {new!r}"
            raise InputError(f"{self.result}: {was}; move it away to run the arm again")
        return True

    def rows(self) -> list[dict]:
        """The rounds evaluated so far, entry 0 the base."""
        files = [file for file in (self.result, self.run / "summary.json") if file.is_file()]
        return json.loads(files[0].read_text())["rounds"] if files else []

    def keep(self) -> None:
        """Keep the summary of the finished run in its short form."""
        self.result.parent.mkdir(parents=True, exist_ok=True)
        summary = json.loads((self.run / "summary.json").read_text())
        if self.preregistered:
            summary["preregistered"] = self.preregistered
        summary["base_weights"] = weights_of(self.base)
        write_text(self.result, dump(compact(summary)))
