"""All settings of a run: one frozen dataclass; a YAML file holds only what differs from these defaults.

A file may name a parent with `extends: other.yaml` (relative to itself). Every error names the file, the key and the
value.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import yaml

from asl_min.run.errors import InputError

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    """The defaults are those of the miniature, `configs/tiny.yaml`."""

    recipe: str = "asl"
    """The system: a file in `asl_min/recipes/`, which says how tasks and answers are rewarded and what is kept."""
    arm: str = ""
    """Name of the run's arm in `summary.json`, where arms of one recipe differ in settings; empty: the recipe's."""
    seed: int = 0
    """Every random choice of a run derives from it."""
    rounds: int = 4
    """Rounds of PG -> GRM -> PM."""

    # what is learnt on
    base_model: str = "asl_min/world/tiny/base"
    """Folder or hub id of any causal LM with a chat template; a relative folder may also be the package's own."""
    prompts: str = "tiny"
    """Prompt file: a name in `asl_min/prompts/` or a path."""
    corpus: str = "asl_min/world/data/target/corpus.jsonl"
    """Passages, JSONL in the Search-R1 form."""
    questions: str | None = "asl_min/world/data/target/questions.jsonl"
    """Evaluation questions with gold answers (FlashRAG form); null: held-out accuracy is not measured."""
    judgments: str | None = "asl_min/world/data/target/judgments.jsonl"
    """Gold judgments of candidate answers; null: the GRM's accuracy is not measured."""
    oracle: str | None = "target"
    """Half of the embedded world whose oracle measures the generated tasks; null for a corpus of one's own."""
    search_url: str | None = None
    """Address of a retrieval server that searches instead of the built-in BM25; the corpus then only gives the
    topics."""
    top_k: int = 3
    """Passages a query (paper: 3)."""

    # what differs between recipes
    policy_tasks: int = 0
    """The policy phase trains on at most this many tasks, drawn at random; 0: all."""
    labelled_questions: str | None = "asl_min/world/data/target/train_questions.jsonl"
    """Gold questions that replace the generated tasks; read by the recipe `search_r1` alone."""
    labelled_judgments: str | None = "asl_min/world/data/target/train_judgments.jsonl"
    """Real verification data (question, answer, label); read in round `inject_round` alone."""
    inject_round: int = 0
    """Round whose GRM phase also gets real verification data; 0: none."""
    inject_share: float = 0.01
    """Right and wrong triples injected, each as a share of the tasks that the PG writes in the whole run (paper: 1% of
    a training set)."""
    oracle_from_round: int = 0
    """From this round on the oracle gives the verdicts that reward PG and policy; read by the recipe `oracle_judge`
    alone."""

    # episodes
    max_turns: int = 6
    """Assistant turns an episode (paper: 9)."""
    max_turn_tokens: int = 96
    """Sampled tokens a turn (paper: 2048)."""
    max_episode_tokens: int = 640
    """Tokens an episode, prompt and tool responses included (paper: 10240)."""
    temperature: float = 1.0
    """Sampling temperature of all three roles in training (paper: 1)."""
    generation_batch_size: int = 1024
    """Episodes whose turn is sampled in one batch; with a server, requests under way at once (128 at most)."""
    backend: str = "local"
    """What samples: "local", the trainer's own model; "vllm" or "tgi", a server."""
    server_url: str | None = None
    """Address of the generation server, such as http://localhost:8000."""
    server_folder: str = "runs/serving"
    """Where the trainer leaves weights for the server; both must see it under this path."""
    server_tolerance: float = 0.05
    """Mean difference, nats a token, between the server's and the trainer's log-probabilities of a probe beyond which a
    run ends."""

    # optimisation
    quantization: str | None = None
    """How the frozen base is held: null: float32; "bf16"; "nf4": QLoRA, 4 bits with double quantisation, computed in
    bfloat16 (on a CPU float32)."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: a third more time, and activations of one layer instead of all."""
    adapters: str = "shared"
    """"shared": one LoRA adapter for the three roles, as the paper's one backbone; "per_role": one each."""
    lora_rank: int = 16
    """Rank of the adapters, on every linear layer of the blocks; alpha is twice the rank."""
    learning_rate: float = 3e-4
    """AdamW, constant within a phase (paper: 1e-6 on full weights)."""
    clip: float = 0.2
    """Range of the importance ratio."""
    ratio_cap: float = 0.0
    """Each token's loss is weighted by trainer's over sampler's probability, at most this much; 0: not weighted. For
    samples of a server."""
    kl_coef: float = 0.0
    """Weight of the k3 estimate of the KL divergence to the base model (paper: 0)."""
    minibatches: int = 1
    """Optimizer steps a rollout batch; old log-probabilities are those before the first."""
    micro_batch_tokens: int = 2048
    """Padded tokens of one forward and backward pass."""
    max_grad_norm: float = 1.0
    """Gradient clipping."""
    mixed_precision: str | None = None
    """Accelerate's "no", "bf16" or "fp16"; null: what the launcher's config file says."""
    save_every: int = 1
    """The phase's state goes to the disk after every this many steps, and after the last; a killed phase goes on from
    the last state."""
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    trackers: str | None = None
    """Accelerate tracker that gets every step's metrics: "tensorboard", "wandb" or "trackio" (to be installed); null:
    none."""

    # 1. Prompt Generator phase
    pg_prompts: int = 16
    """Meta prompts a step."""
    pg_samples: int = 4
    """Tasks a meta prompt (paper: 4)."""
    pg_max_steps: int = 8
    """The phase ends after this many steps at the latest."""
    attempts: int = 6
    """K: policy attempts a task (paper: 10)."""
    verify_samples: int = 5
    """M: GRM votes on a task's own answer (paper: 5)."""
    verify_threshold: float = 0.8
    """Share of these votes below which a task earns nothing (paper: 0.8)."""
    max_tasks_first: int = 2000
    """Tasks after which the phase ends in the first round (paper: 2000)."""
    max_tasks: int = 5000
    """The same in later rounds (paper: 5000)."""

    # 2. Generative Reward Model phase
    grm_prompts: int = 32
    """Verification triples a step (paper: 32)."""
    grm_samples: int = 4
    """Judgments a triple (paper: 4)."""
    grm_max_steps: int = 16
    """The phase ends after this many steps at the latest."""
    grm_labels: str = "reference"
    """"self": the GRM's own earlier verdict; "reference": match of the attempt with the PG's own answer."""
    grm_plateau: int = 200
    """N of the plateau rule, steps (paper: 200)."""

    # 3. Policy phase
    policy_prompts: int = 16
    """Tasks a step (paper: 32)."""
    policy_samples: int = 8
    """Episodes a task (paper: 4)."""
    policy_max_steps: int = 16
    """The phase ends after this many steps at the latest."""
    policy_plateau: int = 400
    """N of the plateau rule, steps (paper: 400)."""
    plateau_threshold: float = 0.005
    """Relative gain below which a phase has reached its plateau (paper: 0.005)."""
    width_rounds: int = 1
    """Meta prompts made in rounds up to this vary by width, later ones by depth (paper: `meta_iter` <= 4, which counts
    phases, so round 1)."""

    # evaluation
    eval_split: str = "test"
    """"test": the first questions and judgments of the files; "validation": the next ones, to choose a learning rate
    on."""
    eval_per_hop: int = 150
    """Held-out questions of each number of hops."""
    eval_judgments: int = 300
    """Gold judgments judged."""
    eval_tasks: int = 384
    """Tasks on topics that the PG writes for its evaluation, and as many variants of these."""

    @property
    def name(self) -> str:
        """The arm's."""
        return self.arm or self.recipe

    def path(self, value: str) -> Path:
        """A configured path: as given, or inside the package when only that exists."""
        given, shipped = Path(value), PACKAGE.parent / value
        return shipped if not given.exists() and shipped.exists() else given


CHOICES = {
    "eval_split": ("test", "validation"),
    "adapters": ("shared", "per_role"),
    "grm_labels": ("self", "reference"),
    "mixed_precision": ("no", "bf16", "fp16", None),
    "oracle": ("base", "target", None),
    "trackers": ("tensorboard", "wandb", "trackio", None),
    "backend": ("local", "vllm", "tgi"),
    "quantization": (None, "bf16", "nf4"),
}
MAY_BE_ZERO = {
    "seed",
    "kl_coef",
    "ratio_cap",
    "threads",
    "width_rounds",
    "verify_threshold",
    "plateau_threshold",
    "eval_per_hop",
    "eval_judgments",
    "eval_tasks",
    "pg_max_steps",
    "grm_max_steps",
    "policy_max_steps",
    "policy_tasks",
    "inject_round",
    "oracle_from_round",
}
AT_LEAST_TWO = {"grm_samples", "policy_samples"}


def load_config(path: str | Path, **overrides: object) -> Config:
    """Read a YAML file over its parents over the defaults, `overrides` over it. Raises `InputError` on unknown keys and
    impossible values."""
    check(dict(overrides), "command line")
    config = check(_read(Path(path), set()) | overrides, str(path))
    if config.backend != "local" and not config.server_url:
        raise InputError(f"{path}: key 'backend' is {config.backend!r}, which needs 'server_url'")
    return config


def _read(path: Path, seen: set[Path]) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: no such config file")
    if path.resolve() in seen:
        raise InputError(f"{path}: 'extends' goes in a circle")
    values = read_yaml(path.read_bytes(), str(path)) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, found {type(values).__name__}")
    parent = values.pop("extends", None)
    inherited = _read(path.parent / str(parent), seen | {path.resolve()}) if parent else {}
    check(values, str(path))
    return inherited | values


def read_yaml(text: str | bytes, where: str) -> object:
    """Raises `InputError` naming `where`."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist, say
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def check(values: dict, where: str) -> Config:
    """A `Config` of these values. Raises `InputError` naming `where`, the key and the value."""
    types = get_type_hints(Config)
    for key, value in values.items():
        if key not in types:
            raise InputError(f"{where}: unknown key '{key}' (value {value!r})")
        values[key] = _convert(value, types[key], f"{where}: key '{key}'")
    config = Config(**values)
    for key, value in dataclasses.asdict(config).items():
        if key in CHOICES and value not in CHOICES[key]:
            raise InputError(f"{where}: key '{key}' is {value!r}, must be one of {', '.join(map(repr, CHOICES[key]))}")
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and not (value > 0 or (value == 0 and key in MAY_BE_ZERO))
        ):
            raise InputError(
                f"{where}: key '{key}' is {value!r}, must be {'at least 0' if key in MAY_BE_ZERO else 'above 0'}"
            )
        if key in AT_LEAST_TWO and value < 2:
            raise InputError(f"{where}: key '{key}' is {value!r}, a group needs at least 2 samples")
    if config.verify_threshold > 1:
        raise InputError(f"{where}: key 'verify_threshold' is {config.verify_threshold!r}, a share is at most 1")
    if config.inject_round and not config.labelled_judgments:
        raise InputError(f"{where}: key 'labelled_judgments' is None, but 'inject_round' is {config.inject_round}")
    if config.labelled_questions and config.labelled_questions == config.questions:
        raise InputError(f"{where}: key 'labelled_questions' is {config.questions!r}, the questions of the evaluation")
    return config


def _convert(value: object, wanted: type, where: str) -> object:
    """The value as its field's type; YAML writes 1e-3 as text and 1 for 1.0."""
    try:
        if wanted is float and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
        elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    name = getattr(wanted, "__name__", str(wanted))
    raise InputError(f"{where} is {value!r}, expected {name}")


def dump_config(config: Config) -> str:
    """Every value of a config as YAML."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
