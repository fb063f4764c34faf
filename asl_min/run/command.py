"""The command line of every script: its arguments, its errors and its exit codes.

A script calls `start` before its own imports. So `--help` answers at once, and what torch reads from the environment
is set before torch is there. `start` then imports the script as a module and calls its `main`.
"""

import argparse
import errno
import importlib
import math
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError

from asl_min.config import Config, check, load_config, read_yaml
from asl_min.run.errors import InputError

Argument = tuple[tuple[str, ...], dict]
"""The names and settings of `ArgumentParser.add_argument`."""


def argument(*names: str, **settings: object) -> Argument:
    return names, settings


CONFIG = argument("--config", type=Path, metavar="FILE", help="YAML file; not needed to continue a run")
RUN = argument("--run", type=Path, metavar="DIR", required=True, help="run folder")
ROUND = argument("--round", type=int, metavar="N", required=True, help="round number, from 1")
OVERRIDES = argument("overrides", nargs="*", default=[], metavar="key=value", help="values over those of the config")
SPIN_COUNT = "12000"
"""How often a waiting thread of OpenMP looks for work before it sleeps. The default, 300000, makes a phase many times
slower beside other busy processes; much fewer make it slower alone (docs/speed.md)."""
EXTRAS = {"fastapi": "chat", "uvicorn": "chat", "faiss": "retrieval", "tenacity": "serve"}
"""What pip calls the extra that has a package which scripts import."""
MAX_PORT = 65535
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
SCRIPTS = {
    "asl-rounds": "asl_min.rounds",
    "asl-train-prompt-generator": "asl_min.train_prompt_generator",
    "asl-train-reward-model": "asl_min.train_reward_model",
    "asl-train-policy": "asl_min.train_policy",
    "asl-evaluate": "asl_min.evaluate",
    "asl-ask": "asl_min.tools.ask",
    "asl-report": "asl_min.tools.report",
    "asl-serve": "asl_min.tools.serve",
    "asl-share": "asl_min.tools.share",
    "asl-plan": "asl_min.tools.plan",
    "asl-base-measures": "asl_min.tools.base_measures",
    "asl-preflight": "asl_min.tools.preflight",
    "asl-population": "asl_min.world.tiny.population",
    "asl-ingest": "asl_min.search.ingest",
    "asl-index": "asl_min.search.disk",
    "asl-search-server": "asl_min.search.server",
    "asl-hub": "asl_min.search.hub",
    "asl-people": "asl_min.real.people",
}
"""What pip installs (pyproject.toml), and the module behind each."""


def entry() -> None:
    """Runs the script that the program is named after, as `python -m` would."""
    runpy.run_module(SCRIPTS[Path(sys.argv[0]).stem], run_name="__main__")


def start(module: str, description: str, *arguments: Argument) -> NoReturn:
    """Run a script: parse its command line, then `main(args)` of the module. Ends the process."""
    args = parser_of(module, description, *arguments).parse_intermixed_args()
    set_up_process()
    with clear_errors():
        if getattr(args, "config", None) and hasattr(args, "overrides"):  # a wrong key, before torch takes seconds
            load_config(args.config, **parse_overrides(args.overrides))
        from asl_min.run import terminal  # rich, which help does without

        terminal.mode = args.mode
        importlib.import_module(module).main(args)
        end_processes()
    raise SystemExit(0)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line and exit code 2, as for any other bad input."""
        self.exit(2, f"error: {message} (see --help)\n")


def path(text: str) -> Path:
    """Refuses the empty text, which `Path` takes for the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("is empty, expected a path")
    return Path(text)


def above_zero(kind: type[int] | type[float], highest: float = math.inf) -> Callable[[str], float]:
    """For `type=` of an argument: a number above 0, `highest` at most."""

    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value <= highest:
            allowed = "above 0" if highest == math.inf else f"1 to {highest:g}"
            raise argparse.ArgumentTypeError(f"{value:g}, must be {allowed}")
        return value

    convert.__name__ = kind.__name__  # argparse calls it so where the text is no number
    return convert


def adapter_folder(text: str) -> Path:
    """For `type=` of an argument: the folder of a peft adapter."""
    if not (path(text) / "adapter_config.json").is_file():
        raise argparse.ArgumentTypeError(f"{text}: holds no peft adapter (no adapter_config.json)")
    return Path(text)


def parser_of(module: str, description: str, *arguments: Argument) -> argparse.ArgumentParser:
    """A script's arguments, and the three flags that all scripts take."""
    program = Path(sys.argv[0]).stem
    parser = Parser(
        prog=program if program in SCRIPTS else f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.register("type", Path, path)
    for names, settings in arguments:
        parser.add_argument(*names, **settings)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    shown = parser.add_mutually_exclusive_group()
    meanings = {"quiet": "errors and the result alone", "json": "JSON instead of text, bars and tables"}
    for mode, meaning in meanings.items():
        shown.add_argument(f"--{mode}", action="store_const", dest="mode", const=mode, default="bar", help=meaning)
    return parser


def set_up_process() -> None:
    """What must be set before torch and peft are imported. `import asl_min` does none of it."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    # peft imports bitsandbytes wherever it is installed, for seconds; `model.find_bitsandbytes` lets it in
    sys.modules.setdefault("bitsandbytes", None)


def end_processes() -> None:
    """End the process group, where torch has made one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        from asl_min.run import stopping

        stopping.end_processes()


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors of the user's making are one line. Exit code 2: bad input; 1: a file that cannot be read or written or is
    damaged, or a full disk; 130: Ctrl-C."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        needed = f"needs the package {error.name}: pip install 'asl_min[{EXTRAS[error.name]}]'"
        print(f"error: {needed}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; a run goes on from its last saved step by the same command", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except (OSError, SafetensorError) as error:
        if not (reason := file_error(error)):
            raise
        print(f"error: {reason}", file=sys.stderr)
        raise SystemExit(1) from None


def file_error(error: OSError | SafetensorError) -> str | None:
    """What is wrong with which file; None where the error names no file."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"no space left on the disk ({error}); free some, then the same command goes on"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else None
    return str(error)


def open_run(args: argparse.Namespace) -> tuple[Path | None, Config]:
    """The run folder and the config that the arguments name, after every input is checked. Unless this is a dry run,
    the folder is made, or gets the values that may change. Raises `InputError` on anything that a run could fail on."""
    config = config_of(args.config, args.run, args.overrides)
    from asl_min.run.inputs import check_inputs, prepare  # these import torch

    if args.run and (args.config or args.overrides) and not args.dry_run:
        prepare(args.run, config)
    else:
        check_inputs(config, args.run, noting=bool(args.config))
    return args.run, config


def config_of(file: Path | None, run: Path | None, overrides: list[str]) -> Config:
    """The config file with the overrides; without a file the run's own config, of which only `MAY_CHANGE` may be
    overridden. Raises `InputError`."""
    given = parse_overrides(overrides)
    if file:
        return load_config(file, **given)
    if not run:
        raise InputError("neither --config nor --run is given; name one")
    from asl_min.run import run_dir  # transformers

    config = check(asdict(run_dir.read_config(run)) | given, "command line")
    run_dir.refuse_conflict(run, config)
    return config


def parse_overrides(pairs: list[str]) -> dict:
    """`key=value` arguments; values as YAML reads them. Raises `InputError` on any other argument."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"argument {pair!r}: expected key=value")
        found[key] = read_yaml(value, f"argument {pair!r}")
    return found
