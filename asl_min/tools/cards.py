"""The cards of what a run gives to others, in the hub's form: licence, tags, base model and what was measured
(`model-index`) stand in the front matter, which huggingface_hub writes."""

import json
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import DatasetCardData, EvalResult, ModelCard, ModelCardData

from asl_min.config import Config
from asl_min.run import hub, run_dir
from asl_min.tools.summary import dig

TAGS = ["agentic-self-learning"]
MODEL_CARD = """---
{front}
---
# {title}, seed {seed}: after the {role} phase of round {round_number}

A LoRA adapter trained by asl_min, recipe `{recipe}`, on the corpus `{corpus}`, from the base `{base}`. {who} \
With plain peft{below}:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({base!r})
base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, {place!r})
```

The prompts that it was trained with are `prompts.yaml` of the run; \
`python -m asl_min.tools.ask {place} "question"` plays the search episode{config}.
"""
DATASET_CARD = """---
{front}
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
tasks = load_dataset({repo!r}, "tasks")["train"]
```
"""
METRICS = {
    "policy": [
        ("exact_match", "Exact match at temperature 1, mean over relations", ("accuracy", "mean")),
        ("exact_match", "Exact match, greedy, mean over relations", ("accuracy_greedy", "mean")),
    ],
    "reward_model": [("accuracy", "Balanced accuracy on gold judgments", ("grm", "balanced_accuracy"))],
    "prompt_generator": [("accuracy", "Tasks whose own answer is right, by the oracle", ("pg", "right"))],
}
"""Of a role's adapter: the hub's name of a metric, ours, and where results.json has it."""


def model_card(run: Path, round_number: int, role: str, repo: str | None = None, licence: str | None = None) -> str:
    """The README.md of a phase's adapter. `repo`: of the hub, where it will lie; else the run's own folder. `licence`:
    by the hub's short names; else that of the base, where its own card names one."""
    config = run_dir.read_config(run)
    who = "The three roles share it." if config.adapters == "shared" else "The other two roles have their own."
    base = str(config.path(config.base_model))
    facts = facts_of(config) | {"base": base, "who": who, "role": role.replace("_", " "), "round_number": round_number}
    roles = tuple(METRICS) if config.adapters == "shared" else (role,)
    front = ModelCardData(
        license=licence or licence_of(Path(base)),
        base_model=config.base_model if hub.is_meant(config.base_model) else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", *TAGS],
        model_name=f"{config.name}, seed {config.seed}, round {round_number}",
        eval_results=measured(run, round_number, roles, config) or None,
    )
    place = repo or str(run_dir.phase_dir(run, round_number, role) / "adapter")
    below = "" if repo else ", from the folder that the paths below start from"
    return MODEL_CARD.format(
        **facts, front=front.to_yaml(), place=place, below=below, config=" (with --config config.yaml)" if repo else ""
    )


def measured(run: Path, round_number: int, roles: Sequence[str], config: Config) -> list[EvalResult]:
    """What the round's evaluation found of these roles; nothing where there was none."""
    file = run_dir.phase_dir(run, round_number, "evaluation") / "results.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    data = {"policy": config.questions, "reward_model": config.judgments}
    return [
        EvalResult("question-answering", "asl_min", data.get(role) or config.corpus, kind, value, metric_name=name)
        for role in roles
        for kind, name, keys in METRICS[role]
        if (value := dig(results, *keys)) is not None
    ]


def licence_of(base: Path) -> str | None:
    """The licence that the card of a base's folder names; None where there is no such card."""
    file = base / "README.md"
    return ModelCard.load(file, ignore_metadata_errors=True).data.license if file.is_file() else None


def dataset_card(config: Config, rounds: int, counts: dict[str, int], repo: str, licence: str | None) -> str:
    """The README.md of a run's tasks and judgments. `counts`: rows by table."""
    front = DatasetCardData(
        license=licence,
        pretty_name=f"{config.name}, seed {config.seed}: tasks and judgments",
        task_categories=["question-answering"],
        tags=TAGS,
        configs=[{"config_name": name, "data_files": f"{name}.jsonl"} for name in counts],
    )
    rows = {f"n_{name}": number for name, number in counts.items()}
    return DATASET_CARD.format(
        **facts_of(config), **rows, front=front.to_yaml(), base=config.base_model, rounds=rounds, repo=repo
    )


def facts_of(config: Config) -> dict[str, object]:
    """What both kinds of cards say of a run."""
    return {"title": config.name, "recipe": config.recipe, "seed": config.seed, "corpus": config.corpus}
