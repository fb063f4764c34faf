"""Model cards whose code runs, a data set that `datasets` loads, trackers, and the generated pages of docs/."""

import base64
import json
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import datasets
import pytest
import yaml
from helpers import ROOT
from huggingface_hub import ModelCard
from tensorboardX.proto.event_pb2 import Event

from asl_min import train_prompt_generator, train_reward_model
from asl_min.config import dump_config
from asl_min.corpus import read_jsonl, write_jsonl
from asl_min.phase import accelerator_of
from asl_min.run import hub, run_dir
from asl_min.run.errors import InputError
from asl_min.run.trackers import start_trackers
from asl_min.tools import push, share

sys.path.insert(0, str(ROOT / "docs"))
import build

DRAFT = {
    "question": "What is it?",
    "answer": "a",
    "well_formed": True,
    "votes": [True],
    "verdicts": [True, False],
    "reward": 0.69,
}
NONE = {"question": None, "answer": None, "well_formed": False, "votes": [], "verdicts": [], "reward": 0.0}
FROM = [{"topic": "Paris"}, {"question": "Who?", "direction": "harder", "way": "depth"}]


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    """A finished round with two tasks, of one kind each, and the judgments on them."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_dir.create(folder, config)
    for role in ("prompt_generator", "reward_model", "policy"):
        path = run_dir.begin(folder, 1, role)
        write_jsonl(path / "drafts.jsonl", [DRAFT | {"parent": parent} for parent in FROM] + [NONE])
        write_jsonl(path / "tasks.jsonl", [DRAFT | {"parent": parent} for parent in FROM])
        write_jsonl(
            path / "verification.jsonl",
            [{"question": "q", "reference": "a", "verified": True, "answer": "b", "verdict": False}],
        )
        write_jsonl(path / "outcomes.jsonl", [{"step": 0, "question": "q", "answer": None, "verdict": None}])
        run_dir.finish(path, {})
    return folder


def front_matter(file: Path) -> dict:
    return yaml.safe_load(file.read_text().split("---\n")[1])


def test_data_set_loads_by_name(run, tmp_path):
    assert share.export(run, tmp_path / "data") == {"tasks": 2, "judgments": 2}
    tasks, judged = (
        datasets.load_dataset(str(tmp_path / "data"), name, cache_dir=str(tmp_path / "cache"))["train"]
        for name in ("tasks", "judgments")
    )
    assert [(t["topic"], t["parent"], t["way"], t["kept"]) for t in tasks] == [
        ("Paris", None, None, True),
        (None, "Who?", "depth", True),
    ]
    assert [(j["phase"], j["answer"], j["verdict"]) for j in judged] == [
        ("prompt_generator", "b", False),
        ("policy", None, None),
    ]
    assert "(2 rows)" in (tmp_path / "data" / "README.md").read_text()


def test_kept_tasks_are_those_of_the_round_whatever_their_reward(config, tmp_path):
    """The recipe decides what is kept: here a task of reward 0, and not one of reward 1."""
    run_dir.create(tmp_path, config)
    rows = [DRAFT | {"parent": FROM[0], "question": q, "reward": r} for q, r in (("kept", 0.0), ("refused", 1.0))]
    folder = run_dir.begin(tmp_path, 1, "prompt_generator")
    write_jsonl(folder / "drafts.jsonl", rows)
    write_jsonl(folder / "tasks.jsonl", rows[:1])
    assert {row["question"]: row["kept"] for row in share.tasks(tmp_path, 1)} == {"kept": True, "refused": False}


def test_cards_name_the_arm_and_its_recipe(config, tmp_path):
    run_dir.create(tmp_path, replace(config, recipe="r_zero", arm="mine"))
    card = share.model_card(tmp_path, 1, "policy")
    assert "# mine, seed 0" in card and "recipe `r_zero`" in card


def test_cards_say_what_was_measured_of_the_adapter_in_the_hubs_form(config, tmp_path):
    run_dir.create(tmp_path, replace(config, adapters="per_role", base_model="Owner/base"))
    results = {"accuracy": {"mean": 0.4}, "accuracy_greedy": None, "grm": {"balanced_accuracy": 0.6}, "pg": None}
    (run_dir.begin(tmp_path, 1, "evaluation") / "results.json").write_text(json.dumps(results))
    (tmp_path / "card.md").write_text(share.model_card(tmp_path, 1, "policy", "Owner/mine", "mit"))
    data = ModelCard.load(tmp_path / "card.md").data
    assert (data.license, data.base_model, data.tags) == ("mit", "Owner/base", ["lora", "agentic-self-learning"])
    assert [(r.metric_type, r.metric_value, r.dataset_name) for r in data.eval_results] == [
        ("exact_match", 0.4, config.questions)
    ]
    assert "PeftModel.from_pretrained(base, 'Owner/mine')" in (tmp_path / "card.md").read_text()
    assert "Balanced accuracy" in share.model_card(tmp_path, 1, "reward_model")


def test_licence_is_that_of_the_base_unless_one_is_given(config, tmp_path):
    shipped = "asl_min/world/tiny/bases/b08"
    run_dir.create(tmp_path, replace(config, base_model=shipped))
    (tmp_path / "card.md").write_text(share.model_card(tmp_path, 1, "policy"))
    data = ModelCard.load(tmp_path / "card.md").data
    assert data.license == "apache-2.0" and data.base_model is None and data.eval_results is None


def test_card_of_the_data_set_names_its_own_repository(run, tmp_path):
    share.export(run, tmp_path / "mine")
    assert "load_dataset('OWNER/mine', \"tasks\")" in (tmp_path / "mine" / "README.md").read_text()
    share.export(run, tmp_path / "mine", "Me/data", "cc-by-4.0")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert "load_dataset('Me/data', \"tasks\")" in text and str(tmp_path) not in text.split("Written by")[0]
    assert front_matter(tmp_path / "mine" / "README.md")["license"] == "cc-by-4.0"


class Hub(BaseHTTPRequestHandler):
    """Takes uploads as the hub does, as far as huggingface_hub asks: every file is a small one."""

    asked: ClassVar[list] = []
    refuses: ClassVar[bool] = False

    def do_HEAD(self):
        self.reply({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.path, body, self.headers.get("authorization")))
        if self.refuses:
            self.reply({"error": "Invalid user token."}, 401)
        elif self.path.endswith("/preupload/main"):
            named = [file["path"] for file in json.loads(body)["files"]]
            self.reply({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in named]})
        elif "/commit/" in self.path:
            self.reply({"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.page()}/commit/{'0' * 40}"})
        else:
            self.reply({"url": self.page(), "errors": [], "warnings": []})

    def page(self) -> str:
        return f"http://{self.headers['host']}/Me/mine"

    def reply(self, found: dict, status: int = 200):
        text = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text if self.command != "HEAD" else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def own_hub(monkeypatch):
    """A server on the loopback in the hub's place."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    monkeypatch.setattr(Hub, "asked", [])
    hub.answers.cache_clear()
    yield
    hub.answers.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.fixture
def whole_run(run, tmp_path) -> Path:
    """The finished run, with adapters."""
    copy = shutil.copytree(run, tmp_path / "run")
    for role in ("prompt_generator", "reward_model", "policy"):
        adapter = run_dir.phase_dir(copy, 1, role) / "adapter"
        adapter.mkdir()
        for name in push.ADAPTER:
            (adapter / name).write_text(role)
    return copy


def committed(path: str) -> dict[str, str]:
    """The files of the commit that a path got."""
    (body,) = [body for asked, body, _ in Hub.asked if asked == f"{path}/commit/main"]
    rows = [json.loads(line) for line in body.splitlines()]
    return {r["value"]["path"]: base64.b64decode(r["value"]["content"]).decode() for r in rows if r["key"] == "file"}


def test_push_uploads_data_set_and_model_with_their_cards(own_hub, whole_run, tmp_path, script, capsys):
    words = [whole_run, "--out", tmp_path / "data", "--push", "Me/mine", "--licence", "mit", "--json"]
    assert script("asl_min.tools.share", *words) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == 2
    data, model = committed("/api/datasets/Me/mine"), committed("/api/models/Me/mine")
    assert set(data) == {"tasks.jsonl", "judgments.jsonl", "README.md"} and "license: mit" in data["README.md"]
    assert set(model) == {*push.ADAPTER, "prompts.yaml", "config.yaml", "README.md"}
    assert model["adapter_config.json"] == "policy" and "from_pretrained(base, 'Me/mine')" in model["README.md"]
    made = [json.loads(body) for path, body, _ in Hub.asked if path == "/api/repos/create"]
    assert [repo["visibility"] for repo in made] == ["private", "private"]
    assert {token for _, _, token in Hub.asked} == {"Bearer hf_token"}


def test_every_role_of_its_own_adapter_has_a_folder(whole_run, changed):
    (whole_run / "config.yaml").write_text(dump_config(changed(adapters="per_role")))
    files = push.model_files(whole_run, 1, "Me/mine")
    assert files["reward_model/adapter_config.json"].read_text() == "reward_model" and len(files) == 9


def test_dry_run_of_a_push_lists_what_would_go_and_asks_nobody(own_hub, whole_run, tmp_path, script, capsys):
    words = [whole_run, "--out", tmp_path / "data", "--push", "Me/mine", "--dry-run"]
    assert script("asl_min.tools.share", *words) == 0
    said = capsys.readouterr().out
    assert "adapter_model.safetensors  6 bytes" in said and "hub data set Me/mine" in said
    assert Hub.asked == [] and not (tmp_path / "data").exists()


def test_refused_or_absent_hub_is_one_line(own_hub, whole_run, tmp_path, monkeypatch, script, capsys):
    words = [whole_run, "--out", tmp_path / "data", "--push", "Me/mine"]
    monkeypatch.setattr(Hub, "refuses", True)
    assert script("asl_min.tools.share", *words) == 2
    assert capsys.readouterr().err.startswith("error: --push: Me/mine: Client error '401 Unauthorized'")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert script("asl_min.tools.share", *words) == 2
    assert script("asl_min.tools.share", *words[:-1], "no_owner") == 2
    assert capsys.readouterr().err == (
        "error: --push: Me/mine: the hub does not answer\nerror: --push: 'no_owner' is not of the form OWNER/NAME\n"
    )


def test_json_and_a_file_in_the_place_of_the_folder(run, tmp_path, script, capsys):
    assert script("asl_min.tools.share", run, "--out", tmp_path / "data", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(tmp_path / "data"), "tasks": 2, "judgments": 2}
    (tmp_path / "file").write_text("")
    assert script("asl_min.tools.share", run, "--out", tmp_path / "file") == 2
    assert capsys.readouterr().err.endswith("file is a file, not a folder\n")


def test_run_without_a_finished_round_has_nothing_to_export(config, tmp_path):
    run_dir.create(tmp_path / "run", config)
    with pytest.raises(InputError, match="no round is finished"):
        share.export(tmp_path / "run", tmp_path / "data")


@pytest.fixture(scope="module")
def tracked(config, tmp_path_factory) -> Path:
    """Two real phases of the random base under TensorBoard."""
    folder = tmp_path_factory.mktemp("runs") / "tracked"
    run_dir.create(folder, replace(config, trackers="tensorboard"))
    train_prompt_generator.run_phase(folder, 1)
    time.sleep(1.1)  # tensorboardX names its files by the second
    train_reward_model.run_phase(folder, 1)
    return folder


def test_code_of_a_model_card_loads_the_adapter(tracked, config):
    share.write_cards(tracked)
    card = tracked / "round_01" / "prompt_generator" / "adapter" / "README.md"
    code = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)[1]
    names: dict = {}
    exec(code, names)
    assert len(code.splitlines()) == 5 and names["model"].peft_config["default"].r == config.lora_rank
    assert front_matter(card)["library_name"] == "peft" and "base_model" not in front_matter(card)  # a local folder


def test_cards_are_written_for_finished_adapters_without_one(config, tmp_path):
    run_dir.create(tmp_path, config)
    for role in ("prompt_generator", "reward_model"):
        folder = run_dir.begin(tmp_path, 1, role)
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_config.json").write_text("{}")
        run_dir.finish(folder, {})
    (run_dir.begin(tmp_path, 1, "policy") / "adapter").mkdir()  # not finished
    own = tmp_path / "round_01" / "reward_model" / "adapter" / "README.md"
    own.write_text("edited by hand")
    assert share.write_cards(tmp_path) == [tmp_path / "round_01" / "prompt_generator" / "adapter" / "README.md"]
    assert own.read_text() == "edited by hand" and share.write_cards(tmp_path) == []
    assert run_dir.mend(tmp_path, 1) == []


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of one name in TensorBoard's event files: records of length, checksum, message, checksum."""
    found = []
    for file in sorted(folder.glob("events*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == name]
            at += size + 16
    return found


def test_tracker_gets_every_step_once(tracked):
    rewards = [row["reward"] for _, row in read_jsonl(tracked / "round_01" / "prompt_generator" / "metrics.jsonl")]
    found = scalars(tracked / "trackers" / "asl_min", "prompt_generator/reward")
    assert found == [(step, pytest.approx(reward)) for step, reward in enumerate(rewards)] and found


def test_trackers_know_a_run_by_one_name_of_its_own(config, tmp_path, monkeypatch):
    """WandB goes on with a run by its id, Trackio by its name: the same in all phases, another for a folder of the same
    name elsewhere."""
    given = []
    monkeypatch.setattr("asl_min.run.trackers.get_available_trackers", lambda: ["wandb"])
    monkeypatch.setattr("asl_min.run.trackers.filter_trackers", lambda *_: [])
    monkeypatch.setattr("accelerate.Accelerator.init_trackers", lambda self, project, settings, own: given.append(own))
    for folder in (tmp_path / "a" / "run", tmp_path / "b" / "run"):
        chosen = replace(config, trackers="wandb")
        run_dir.create(folder, chosen)
        for _ in range(2):
            start_trackers(accelerator_of(chosen), folder, chosen)
    ids = [own["wandb"]["id"] for own in given]
    assert ids[0] == ids[1] != ids[2] == ids[3] and all(i.startswith("run-") for i in ids)
    assert [own["trackio"]["name"] for own in given] == ids
    assert given[0]["wandb"]["dir"] == str(tmp_path / "a" / "run" / "trackers")


def test_tracker_that_is_not_installed_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr("asl_min.run.trackers.get_available_trackers", list)
    run_dir.create(tmp_path / "run", replace(config, trackers="wandb"))
    with pytest.raises(InputError, match="trackers: 'wandb' is not installed"):
        train_prompt_generator.run_phase(tmp_path / "run", 1)


@pytest.mark.parametrize("name", build.PAGES)
def test_generated_page_is_what_the_code_says(name):
    assert (ROOT / "docs" / name).read_text() == build.PAGES[name](), "run python docs/build.py"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (
            "python -m asl_min.tr",
            ["asl_min.train_policy", "asl_min.train_prompt_generator", "asl_min.train_reward_model"],
        ),
        ("accelerate launch -m asl_min.train_policy --r", ["--run", "--round"]),
        ("python -m asl_min.rounds --config x.yaml inject_r", ["inject_round="]),
        ("python other.py ", []),
    ],
)
def test_bash_completes_scripts_options_and_keys(typed, offered):
    words = typed.split(" ")
    script = "source docs/completion.bash; compopt() { :; }; "
    script += 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _asl_min; echo "${COMPREPLY[@]}"'
    said = subprocess.run(
        ["bash", "-c", script, "bash", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout.split() == offered


def test_citation_names_paper_and_software():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(found) and found["references"][0]["title"].startswith(
        "Towards Agentic Self-Learning"
    )


def test_readme_of_another_kind_is_not_replaced(run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README\.md: is not of a data set"):
        share.export(run, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
