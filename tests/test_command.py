"""Every script's command line: quick help, the same flags, exit codes, and which run and config the arguments mean."""

import errno
import json
import os
import resource
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT
from safetensors import SafetensorError

from asl_min.config import Config, dump_config, load_config
from asl_min.corpus import write_jsonl
from asl_min.model import ROLES, load_backbone, save_adapter
from asl_min.run import command, hub, run_dir
from asl_min.run.errors import InputError
from asl_min.run.inputs import check_inputs

sys.path.insert(0, str(ROOT / "docs"))
import build

SCRIPTS = [*command.SCRIPTS.values(), *build.REPRODUCE]
OF_A_RUN = [
    "asl_min.rounds",
    "asl_min.evaluate",
    *(f"asl_min.train_{role}" for role in ROLES),
    "reproduce.run",
]
HELP_SECONDS = 3.0  # of processor time; importing torch takes more


def run(*words: object, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- the same everywhere


@pytest.mark.parametrize("module", SCRIPTS)
def test_help_is_quick_and_shows_an_example(module):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = run("-m", module, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said.returncode == 0 and f"-m {module} " in said.stdout.split("\n", 1)[1], said.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_SECONDS


@pytest.mark.parametrize("module", SCRIPTS)
def test_script_takes_the_common_flags(module):
    assert {"--dry-run", "--quiet", "--json"} <= set(build.words_of(build.parser_of(module)).split())


@pytest.mark.parametrize("module", OF_A_RUN)
def test_script_of_a_run_takes_config_run_and_values(module):
    assert {"--config", "--run", "$_asl_min_keys"} <= set(build.words_of(build.parser_of(module)).split())


def test_quiet_and_json_exclude_each_other(script, capsys):
    assert script("asl_min.rounds", "--run", "x", "--quiet", "--json") == 2


def test_every_script_is_installed_under_its_name():
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert given == dict.fromkeys(command.SCRIPTS, "asl_min.run.command:entry")


def test_installed_script_runs_as_its_module_does(tmp_path):
    """What pip writes into bin/."""
    program = tmp_path / "asl-plan"
    program.write_text("from asl_min.run.command import entry\nentry()\n")
    found = run(program, ROOT / "configs" / "tiny.yaml", "--json", "lora_rank=4")
    assert json.loads(found.stdout)["base_model"] == Config().base_model and found.returncode == 0
    assert run(program, "nowhere.yaml").stderr == "error: nowhere.yaml: no such config file\n"


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("asl_min.tools.plan", [], "the following arguments are required: config"),
        ("asl_min.rounds", ["--run", ""], "argument --run: is empty, expected a path"),
        ("asl_min.evaluate", ["--run", ""], "argument --run: is empty, expected a path"),
        ("asl_min.train_policy", ["--run", "x", "--round", "one"], "argument --round: invalid int value: 'one'"),
        ("asl_min.rounds", ["--run", "x", "--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_wrong_arguments_are_one_line(module, words, said, script, capsys):
    assert script(module, *words) == 2 and capsys.readouterr().err == f"error: {said} (see --help)\n"


@pytest.mark.parametrize("module", ["asl_min.rounds", "asl_min.tools.plan"])
def test_misspelt_key_is_reported_before_the_script_is_imported(module, script, monkeypatch, capsys):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"{name} imported"))
    config = ROOT / "configs" / "tiny.yaml"
    words = [config] if module.endswith("plan") else ["--config", config, "--run", "x"]
    assert script(module, *words, "rouns=2") == 2
    assert capsys.readouterr().err == "error: command line: unknown key 'rouns' (value 2); did you mean 'rounds'?\n"


# --- the process


def test_package_leaves_the_host_process_alone():
    code = (
        "import os, sys; modules, variables = set(sys.modules), dict(os.environ); import asl_min; "
        "assert set(sys.modules) - modules == {'asl_min'} and dict(os.environ) == variables"
    )
    found = run("-c", code)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("hidden", [True, False])
def test_bitsandbytes_is_found_whether_a_script_hid_it_or_not(hidden):
    hide = "from asl_min.run.command import set_up_process; set_up_process(); " if hidden else ""
    code = f"{hide}from asl_min.model import find_bitsandbytes; find_bitsandbytes(); import bitsandbytes.nn"
    found = run("-c", code)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("given", "set_to"),
    [
        ({}, command.SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_waiting_of_threads_is_set_unless_the_user_did(given, set_to, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    command.set_up_process()
    found = os.environ.pop("GOMP_SPINCOUNT", None)
    assert found == set_to


# --- errors


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), "a/b: No such file or directory"),
        (FileExistsError(errno.EEXIST, "File exists", "a/b"), "a/b: File exists"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: Not a directory"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a/b"), "a/b: Is a directory"),
        (SafetensorError("a/b: damaged weights: header too small"), "a/b: damaged weights: header too small"),
    ],
)
def test_file_errors_are_one_line_and_code_1(error, said, capsys):
    with pytest.raises(SystemExit) as ended, command.clear_errors():
        raise error
    assert ended.value.code == 1 and capsys.readouterr().err == f"error: {said}\n"


def test_missing_package_of_an_extra_is_one_line(script, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "asl_min.tools.serve", raising=False)
    assert script("asl_min.tools.serve", "base") == 2
    assert capsys.readouterr().err == "error: needs the package uvicorn: pip install 'asl_min[chat]'\n"


def test_interruption_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended, command.clear_errors():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; a run goes on from its last saved step by the same command\n"


@pytest.mark.parametrize("error", [FileNotFoundError("no file is named"), ConnectionError("gone"), KeyError("a bug")])
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)), command.clear_errors():
        raise error


def test_damaged_adapter_is_named(config, tmp_path):
    save_adapter(load_backbone(config, {}), "shared", tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(SafetensorError, match=str(tmp_path)):
        load_backbone(config, dict.fromkeys(ROLES, tmp_path))


def test_damaged_base_is_named(config, base, tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    for file in Path(base).iterdir():
        (folder / file.name).write_bytes(file.read_bytes()[: 100 if file.suffix == ".safetensors" else None])
    with pytest.raises(SafetensorError, match=str(folder)):
        load_backbone(replace(config, base_model=str(folder)), {})


# --- which run, which config


@pytest.fixture
def a_run(config, tmp_path) -> Path:
    """A run without any finished phase."""
    run_dir.create(tmp_path / "run", config)
    return tmp_path / "run"


@pytest.fixture
def file(config, tmp_path) -> Path:
    (tmp_path / "config.yaml").write_text(dump_config(config))
    return tmp_path / "config.yaml"


def test_prepare_makes_the_folder_with_the_values(script, file, config, tmp_path):
    assert script("asl_min.rounds", "--config", file, "--run", tmp_path / "new", "--prepare", "seed=3") == 0
    assert run_dir.read_config(tmp_path / "new") == replace(config, seed=3)


@pytest.mark.parametrize(
    ("module", "number", "phase"),
    [("asl_min.evaluate", 0, "evaluation"), ("asl_min.train_prompt_generator", 1, "prompt_generator")],
)
def test_run_goes_on_with_other_threads(module, number, phase, script, a_run, config, capsys):
    assert script(module, "--run", a_run, "--round", number, "threads=0") == 0, capsys.readouterr().err
    assert run_dir.read_config(a_run) == replace(config, threads=0) and run_dir.is_done(a_run, number, phase)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("with_config", [False, True])
def test_other_values_of_a_run_are_refused(dry, with_config, script, a_run, file, capsys):
    words = ["--config", file] if with_config else []
    (a_run / "round_00").mkdir(exist_ok=True)  # it has begun
    assert script("asl_min.rounds", *words, "--run", a_run, "seed=1", "--prepare", *dry) == 2
    assert capsys.readouterr().err == f"error: {a_run}: holds a run with seed = 0, not 1; take another --run folder\n"


def test_changed_threads_of_a_dry_run_are_not_written(script, a_run, config):
    assert script("asl_min.rounds", "--run", a_run, "threads=2", "--dry-run") == 0
    assert run_dir.read_config(a_run) == config


def test_neither_run_nor_config_is_refused(script, capsys):
    assert script("asl_min.evaluate") == 2 and "name one" in capsys.readouterr().err


def test_evaluation_without_a_run(script, file, capsys):
    assert script("asl_min.evaluate", "--config", file, "eval_per_hop=0", "eval_tasks=0") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] is None and 0 <= found["grm"]["balanced_accuracy"] <= 1


# --- what is checked before anything is made


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("base_model=./no_such_folder", "base_model: './no_such_folder': no such folder"),
        ("base_model=/no/such/folder", "base_model: '/no/such/folder': no such folder"),
        ("base_model=build/real/none", "base_model: 'build/real/none': no such folder"),
        ("base_model=asl_min/world/bass", "base_model: 'asl_min/world/bass': no such folder"),
        ("corpus=none.jsonl", "none.jsonl: no such file"),
        ("questions=none.jsonl", "none.jsonl: no such file"),
        ("prompts=none", "none"),
        ("trackers=wandb", "trackers: 'wandb' is not installed"),
        ("rouns=2", "did you mean 'rounds'?"),
    ],
)
@pytest.mark.parametrize("flag", ["--dry-run", "--prepare"])
def test_dry_run_and_run_find_the_same_faults(value, said, flag, script, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("asl_min.run.trackers.get_available_trackers", list)
    assert script("asl_min.rounds", "--config", file, "--run", tmp_path / "new", value, flag) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "new").exists()


def test_folder_that_is_not_there_is_not_looked_for_on_a_hub(config, monkeypatch):
    monkeypatch.setattr("asl_min.model.AutoTokenizer.from_pretrained", lambda *_: pytest.fail("looked for"))
    with pytest.raises(command.InputError, match="no such folder"):
        check_inputs(replace(config, base_model="./no_such_folder"))


@pytest.mark.parametrize("flag", ["--dry-run", "--prepare"])
@pytest.mark.parametrize("place", ["config.yaml", "config.yaml/run"])
def test_run_in_the_place_of_a_file_is_refused(place, flag, script, file, tmp_path, capsys):
    assert script("asl_min.rounds", "--config", file, "--run", tmp_path / place, flag) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / place}: {file} is a file, not a folder\n"


def test_run_where_nothing_can_be_written_is_refused(script, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who can write everywhere
    assert script("asl_min.rounds", "--config", file, "--run", tmp_path / "new", "--dry-run") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'new'}: no permission to write in {tmp_path}\n"


# --- what looks like a mistake and is none


def corpus_of(folder: Path, passages: int, words: int = 1, same: bool = False) -> str:
    rows = [{"id": str(0 if same else i), "contents": f'"T{i}"\n{"word " * words}'} for i in range(passages)]
    write_jsonl(folder / "c.jsonl", rows)
    return str(folder / "c.jsonl")


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        ({"passages": 30, "same": True}, "1 ids stand for more than one passage, such as '0'"),
        ({"passages": 2}, "2 passages under 2 titles; tasks will repeat themselves"),
        ({"passages": 30, "words": 90}, "an episode has no room for two"),
    ],
)
def test_odd_corpus_is_noted_when_a_run_begins_and_not_refused(corpus, said, changed, tmp_path, capsys):
    config = changed(corpus=corpus_of(tmp_path, **corpus), max_episode_tokens=512)
    check_inputs(config)
    assert said in " ".join(capsys.readouterr().err.split())
    run_dir.create(tmp_path / "run", config)
    run_dir.begin(tmp_path / "run", 0, "evaluation")
    check_inputs(config, tmp_path / "run")
    assert capsys.readouterr().err == ""


def test_usual_corpus_is_not_noted(changed, tmp_path, capsys):
    check_inputs(changed(corpus=corpus_of(tmp_path, 30)))
    check_inputs(load_config("configs/tiny.yaml"))
    assert capsys.readouterr().err == ""


def test_tiny_base_on_another_corpus_is_noted(tmp_path, capsys):
    check_inputs(load_config("configs/own_corpus.yaml", corpus=corpus_of(tmp_path, 30)))
    assert "a tiny base reads nothing but pages of the embedded world" in " ".join(capsys.readouterr().err.split())


# --- the hub


@pytest.fixture
def no_hub(monkeypatch):
    """An address where nobody answers, and a process that may use the network."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.answers.cache_clear()
    yield
    hub.answers.cache_clear()


def test_hub_that_does_not_answer_ends_a_start_at_once(no_hub, config):
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"neither a folder nor in the hub's cache, and http://127\.0\.0\.1:9 does not"
    ):
        check_inputs(replace(config, base_model="Nobody/Nothing"))
    assert time.monotonic() - start < hub.SECONDS + 2


def test_cached_model_is_used_where_the_hub_does_not_answer(no_hub, monkeypatch):
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: f"/cache/{name}/{file}")
    hub.require("Nobody/Something", "config.json")
    assert hub.is_offline_mode()


@pytest.mark.parametrize(
    ("name", "is_meant"),
    [
        ("Owner/adapter-1.5", True),
        ("tests/nope", False),
        ("./x", False),
        ("/a/b", False),
        ("a/b/c", False),
        ("a", False),
    ],
)
def test_hub_id_is_two_words_and_no_path_below_a_folder_that_there_is(name, is_meant, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert hub.is_meant(name) is is_meant


# --- rounds that a run does not have, and starts that failed


@pytest.mark.parametrize("module", [f"asl_min.train_{role}" for role in ROLES])
@pytest.mark.parametrize("number", ["0", "-1", "9"])
def test_round_that_the_run_does_not_have_is_refused(changed, tmp_path, script, capsys, module, number):
    run_dir.create(tmp_path / "run", changed())
    for more in ([], ["--dry-run"]):
        assert script(module, "--run", tmp_path / "run", "--round", number, *more) == 2
        assert capsys.readouterr().err == f"error: round {number}: the run has rounds 1 to 2 (key 'rounds')\n"


def test_failed_start_does_not_refuse_the_corrected_command(changed, tmp_path):
    run_dir.create(tmp_path, changed(seed=1))
    run_dir.create(tmp_path, changed(seed=2))  # nothing has been computed yet
    run_dir.begin(tmp_path, 0, "evaluation")
    with pytest.raises(InputError, match="holds a run with seed = 2, not 3"):
        run_dir.create(tmp_path, changed(seed=3))


def test_real_verification_data_needs_a_judge_that_may_read_it(changed):
    with pytest.raises(InputError, match="'inject_round' is 1, but the recipe 'absolute_zero' gives its judge no gold"):
        check_inputs(changed(recipe="absolute_zero", inject_round=1))


@pytest.mark.parametrize("name", ["config.yaml", "prompts.yaml"])
def test_file_of_the_users_own_is_not_replaced(name, config, tmp_path):
    (tmp_path / name).write_text("my: own file")
    with pytest.raises(InputError, match=rf"{name}: is not of a run, and would be replaced"):
        run_dir.create(tmp_path, config)
    assert (tmp_path / name).read_text() == "my: own file" and not (tmp_path / run_dir.STARTED).exists()


@pytest.mark.parametrize("text", ["recipe: [a]", "pg_reward: x\npolicy_reward: y"])
def test_config_that_no_run_wrote_is_named(text, config, tmp_path):
    run_dir.create(tmp_path, config)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml: "):
        run_dir.read_config(tmp_path)


def test_split_without_rows_is_refused_before_the_run(changed, tmp_path):
    row = {"question": "q", "golden_answers": ["x"], "answer": "x", "label": True}
    write_jsonl(tmp_path / "rows.jsonl", [row] * 4)
    for key, size in {"questions": "eval_per_hop", "judgments": "eval_judgments"}.items():
        few = {"eval_per_hop": 0, "eval_judgments": 0, "eval_split": "validation"}
        few |= {key: str(tmp_path / "rows.jsonl"), size: 4}
        with pytest.raises(InputError, match="eval_split: 'validation': there are only 4 rows"):
            check_inputs(changed(**few))
        check_inputs(changed(**few | {size: 3}))


def test_budget_below_one_step_of_the_task_writer_is_noted(changed, capsys):
    check_inputs(changed(round_rollouts=3, pg_prompts=1, pg_samples=2, verify_samples=1, attempts=1))
    assert "round_rollouts: 3, but the Prompt Generator's first step alone may take 8" in " ".join(
        capsys.readouterr().err.split()
    )


def test_files_are_whole_though_two_processes_write_them(tmp_path):
    code = "import sys; from pathlib import Path; from asl_min.run.durable import write_text\n"
    code += "for n in range(60): write_text(Path(sys.argv[1]), sys.argv[2] * 20000)"
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "f", letter], cwd=ROOT) for letter in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert (tmp_path / "f").read_text() in ("a" * 20000, "b" * 20000) and len(list(tmp_path.iterdir())) == 1
