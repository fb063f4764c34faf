"""Checkpoint and corpus out of installed packages; what is wrong with a package is said in one line."""

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from transformers import AutoModelForCausalLM

from asl_min.config import Config, load_config
from asl_min.corpus import load_corpus
from asl_min.model import load_base
from asl_min.real import prepare
from asl_min.real.cold_start import with_adapter
from asl_min.real.packages import ARTICLES, WEIGHTS, DataFile, locate
from asl_min.real.prepare import refuse_full_disk, refuse_other, write_articles, write_checkpoint, write_cold
from asl_min.run.durable import new_folder
from asl_min.run.errors import InputError

CONTENT = b'{"A": {}}'
SOUND = DataFile("made-up-prose", "1.2", "made_up_prose_data/a.json", sha256(CONTENT).hexdigest())


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package made-up-prose 1.2 with one file, as pip leaves it."""
    info, data = tmp_path / "made_up_prose-1.2.dist-info", tmp_path / "made_up_prose_data"
    info.mkdir(), data.mkdir()
    (data / "a.json").write_bytes(CONTENT)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-prose\nVersion: 1.2\n")
    (info / "RECORD").write_text(f"{SOUND.name},,\n{info.name}/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    return data / "a.json"


def test_file_is_found_through_the_list_of_its_package(installed):
    assert locate(SOUND) == installed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"package": "made-up-verse"},
            "package made-up-verse is not installed: pip install --no-deps -r requirements-",
        ),
        ({"version": "1.3"}, "package made-up-prose 1.2 is installed, version 1.3 is needed: pip install"),
        ({"name": "made_up_prose_data/b.json"}, "package made-up-prose 1.2 holds no file made_up_prose_data/b.json"),
        ({"sha256": "0" * 64}, "a.json: SHA-256 is "),
    ],
)
def test_what_is_wrong_with_a_package(installed, change, said):
    with pytest.raises(InputError, match=said):
        locate(DataFile(**(SOUND.__dict__ | change)))


def test_deleted_file_is_said_to_be_missing(installed):
    installed.unlink()
    with pytest.raises(InputError, match="holds no file"):
        locate(SOUND)


def test_install_file_pins_the_versions_that_are_read():
    pinned = (ROOT / "requirements-real.txt").read_text().splitlines()
    assert {f"{file.package}=={file.version}" for file in (WEIGHTS, ARTICLES)} <= set(pinned)


def test_articles_become_a_corpus(tmp_path):
    rows = {"Varn Bridge": "It was\nopened  in 1912.", 'The "Ilde"': "A river."}
    (tmp_path / "a.json").write_text(json.dumps({t: {"title": t, "extract": text} for t, text in rows.items()}))
    write_articles(tmp_path / "a.json", tmp_path / "corpus.jsonl")
    first, second = load_corpus(tmp_path / "corpus.jsonl")
    assert (first.id, first.title, first.text) == ("0", "Varn Bridge", "It was opened in 1912.")
    assert second.text == "A river."


@pytest.mark.parametrize("content", ["[1]", "{", '{"a": {"title": "a"}}', '{"a": 3}'])
def test_other_content_is_refused(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: not a table of articles"):
        write_articles(tmp_path / "a.json", tmp_path / "corpus.jsonl")
    assert not (tmp_path / "corpus.jsonl").exists()


def test_interrupted_folder_is_not_there_and_is_begun_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "base") as partial:
        (partial / "half").write_text("x")
        raise KeyboardInterrupt
    assert not (tmp_path / "base").exists()
    with new_folder(tmp_path / "base") as partial:
        assert not list(partial.iterdir())
        (partial / "all").write_text("x")
    assert [f.name for f in tmp_path.iterdir()] == ["base"] and (tmp_path / "base" / "all").read_text() == "x"


def test_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SPACE", 10**18)
    with pytest.raises(InputError, match=r"base: [\d.]+ GB are free on the disk, 1000000000 GB are needed"):
        refuse_full_disk(tmp_path / "not" / "there" / "base")


@pytest.mark.skipif(find_spec("gguf") is not None, reason="gguf is installed")
def test_missing_reader_of_packed_weights_is_said(tmp_path):
    with pytest.raises(InputError, match="package gguf is not installed: pip install --no-deps"):
        write_checkpoint(tmp_path / "a.gguf", tmp_path / "base")


def test_cold_checkpoint_computes_what_base_and_adapter_do(base, tmp_path, monkeypatch):
    model = with_adapter(load_base(Config(base_model=str(base))))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    monkeypatch.setattr(prepare, "ADAPTER", tmp_path / "adapter")
    write_cold(str(base), tmp_path / "cold")
    merged, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "cold"), torch.arange(5, 25)[None]
    assert torch.allclose(merged(ids).logits, model(ids).logits, atol=1e-4)
    assert not torch.allclose(merged(ids).logits, load_base(Config(base_model=str(base)))(ids).logits, atol=1e-2)

    refuse_other(tmp_path / "cold", str(base))
    with pytest.raises(InputError, match="move it away"):
        refuse_other(tmp_path / "cold", "other/weights")
    (tmp_path / "adapter" / prepare.ADAPTER_WEIGHTS).write_bytes(b"another")
    with pytest.raises(InputError, match="made of"):
        refuse_other(tmp_path / "cold", str(base))


def test_config_reads_what_prepare_makes():
    config = load_config(ROOT / "configs" / "smollm2-135m.yaml")
    assert [Path(config.base_model), Path(config.corpus)] == [prepare.COLD, prepare.CORPUS]
