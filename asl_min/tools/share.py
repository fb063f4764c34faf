"""What a run gives to others: a model card for each adapter, and a data set of the run's tasks and judgments.

    python -m asl_min.tools.share runs/NAME --out my_dataset

Upload either with `hf upload NAME FOLDER` (the data set with `--repo-type dataset`). Neither contains gold answers.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    run = argument("run", type=Path, help="run folder")
    out = argument("--out", type=Path, required=True, help="folder of the data set")
    start("asl_min.tools.share", __doc__, run, out)

from argparse import Namespace
from pathlib import Path

from asl_min.config import Config
from asl_min.corpus import read_jsonl, write_jsonl
from asl_min.model import ROLES
from asl_min.run import durable, run_dir, terminal
from asl_min.run.errors import InputError

MODEL_CARD = """---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags: [lora, agentic-self-learning]
---
# {title}, seed {seed}: after the {role} phase of round {round_number}

A LoRA adapter trained by asl_min, recipe `{recipe}`, on the corpus `{corpus}`. {who} \
With plain peft, from the folder that the paths below start from:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({base!r})
base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, {folder!r})
```

The prompts that it was trained with are `prompts.yaml` of the run; \
`python -m asl_min.tools.ask {folder} "question"` plays the search episode.
"""
DATASET_CARD = """---
configs:
- config_name: tasks
  data_files: tasks.jsonl
- config_name: judgments
  data_files: judgments.jsonl
---
# {title}, seed {seed}: tasks and judgments of {rounds} rounds

Written by the model itself while asl_min trained it (recipe `{recipe}`, base `{base}`, corpus `{corpus}`). \
No person checked them: a task's
`answer` is the Prompt Generator's; a `verdict` is the judge's, or a match with the recipe's answer key. \
Both are often wrong, the more so in early rounds.

- `tasks` ({n_tasks} rows): `round`, `question`, `answer`; \
what it was made from (`topic`, or `parent` question with `direction` and `way`);
  `votes` on that answer, where the recipe asks for any; `verdicts` on the policy's attempts; `reward` by the recipe;
  `kept`: whether its question is one of the round's tasks, which the policy is trained on.
- `judgments` ({n_judgments} rows): `round`, `question`, `answer` of a policy attempt, \
`verdict` (null: no answer or unreadable, in the policy phase only), `phase` it is from.

```python
from datasets import load_dataset
tasks = load_dataset({folder!r}, "tasks")["train"]
```
"""


def write_cards(run: Path) -> list[Path]:
    """Write README.md into the adapter folder of each finished phase that has none; returns the new files.

    The checksums in `done.json` stay valid: they cover only the files that existed when the phase finished.
    """
    config = run_dir.read_config(run)
    adapters = {
        run_dir.phase_dir(run, number, role) / "adapter": (number, role)
        for number in range(1, config.rounds + 1)
        for role in ROLES
        if run_dir.is_done(run, number, role)
    }
    missing = [folder for folder in adapters if folder.is_dir() and not (folder / "README.md").exists()]
    for folder in missing:
        durable.write_text(folder / "README.md", model_card(config, *adapters[folder], folder))
    return [folder / "README.md" for folder in missing]


def model_card(config: Config, round_number: int, role: str, folder: Path) -> str:
    """The text of an adapter's README.md."""
    who = "The three roles share it." if config.adapters == "shared" else "The other two roles have their own."
    facts = {
        "base": str(config.path(config.base_model)),
        "title": config.name,
        "recipe": config.recipe,
        "seed": config.seed,
        "corpus": config.corpus,
    }
    return MODEL_CARD.format(
        **facts, who=who, role=role.replace("_", " "), round_number=round_number, folder=str(folder)
    )


def export(run: Path, folder: Path) -> dict[str, int]:
    """Write tasks.jsonl, judgments.jsonl and README.md of the finished rounds into `folder`. Returns the number of rows
    by table. Raises `InputError` if no round is finished, or where `folder` cannot be written."""
    config = run_dir.read_config(run)
    run_dir.check_place(folder)
    rounds = [n for n in range(1, config.rounds + 1) if run_dir.is_done(run, n, "policy")]
    if not rounds:
        raise InputError(f"{run}: no round is finished")
    tables = {
        "tasks": [row for n in rounds for row in tasks(run, n)],
        "judgments": [row for n in rounds for row in judgments(run, n)],
    }
    for name, rows in tables.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    counts = {name: len(rows) for name, rows in tables.items()}
    facts = {
        "title": config.name,
        "recipe": config.recipe,
        "seed": config.seed,
        "base": config.base_model,
        "corpus": config.corpus,
        "folder": str(folder),
    }
    card = DATASET_CARD.format(**facts, rounds=len(rounds), n_tasks=counts["tasks"], n_judgments=counts["judgments"])
    durable.write_text(folder / "README.md", card)
    return counts


def tasks(run: Path, round_number: int) -> list[dict]:
    """The rows of tasks.jsonl from one round: its well-formed drafts."""
    folder = run_dir.phase_dir(run, round_number, "prompt_generator")
    kept = {row["question"] for _, row in read_jsonl(folder / "tasks.jsonl")}
    drafts = [row for _, row in read_jsonl(folder / "drafts.jsonl") if row["well_formed"]]
    return [task_row(round_number, draft, draft["question"] in kept) for draft in drafts]


def task_row(round_number: int, draft: dict, kept: bool) -> dict:
    """A row of tasks.jsonl from a row of drafts.jsonl."""
    asked = draft["parent"]
    made_from = {
        "topic": asked.get("topic"),
        "parent": asked.get("question"),
        "direction": asked.get("direction"),
        "way": asked.get("way"),
    }
    result = {
        "votes": draft["votes"],
        "verdicts": draft["verdicts"],
        "reward": draft["reward"],
        "kept": kept,
    }
    return {"round": round_number, "question": draft["question"], "answer": draft["answer"]} | made_from | result


def judgments(run: Path, round_number: int) -> list[dict]:
    """The rows of judgments.jsonl from one round."""
    files = {"prompt_generator": "verification.jsonl", "policy": "outcomes.jsonl"}
    found = [
        (phase, row)
        for phase, name in files.items()
        for _, row in read_jsonl(run_dir.phase_dir(run, round_number, phase) / name)
    ]
    return [
        {"round": round_number, "phase": phase} | {key: row[key] for key in ("question", "answer", "verdict")}
        for phase, row in found
    ]


def main(args: Namespace) -> None:
    if args.dry_run:
        rounds, files = run_dir.read_config(args.run).rounds, ["tasks.jsonl", "judgments.jsonl", "README.md"]
        text = f"{args.out}: would get {', '.join(files)} from {rounds} rounds of {args.run}"
        terminal.tell(text, out=str(args.out), run=str(args.run), rounds=rounds, files=files)
    else:
        counts = export(args.run, args.out)
        text = f"{args.out}: " + ", ".join(f"{n} {name}" for name, n in counts.items())
        terminal.tell(text, out=str(args.out), **counts)
