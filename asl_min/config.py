"""All settings of a run: one frozen dataclass; a YAML file holds only what differs from these defaults.

A file may name a parent with `extends: other.yaml` (relative to itself). Every error names the file, the key and the
value. pydantic checks each value by its field's type: `PositiveInt`, `Literal` and so on.
"""

import dataclasses
import difflib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from asl_min.run.errors import InputError
from asl_min.run.shipped import shipped


def _number(value: object) -> object:
    """YAML reads 1e-3 as text, since it has no point."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


Number = Annotated[float, BeforeValidator(_number)]
PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
GroupSize = Annotated[int, Field(ge=2)]
Turns = Annotated[int, Field(gt=0, le=64)]
PositiveFloat = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]


@dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False))
class Config:
    """The miniature, `configs/tiny.yaml`, changes some of these defaults."""

    recipe: str = "asl_hybrid"
    """The system: a file in `asl_min/recipes/`, which says how tasks and answers are rewarded and what is kept."""
    arm: str = ""
    """Name of the run's arm in `summary.json`, where arms of one recipe differ in settings; empty: the recipe's."""
    seed: Count = 0
    """Every random choice of a run derives from it."""
    rounds: PositiveInt = 4
    """Rounds of PG -> GRM -> PM."""
    round_rollouts: Count = 0
    """Rollouts of all roles that a round spends. The first two phases take their steps as far as these last, the policy
    goes on until they are spent, whatever `policy_max_steps`; 0: every phase takes its own steps."""
    frozen: list[Literal["prompt_generator", "reward_model", "policy"]] = Field(default_factory=list)
    """Roles that are never updated. A frozen PG still writes the round's tasks; the phase of a frozen GRM is empty."""

    # model and data
    base_model: str = "asl_min/world/tiny/bases/b08"
    """Folder or hub id of any causal LM with a chat template; a relative folder may also be the package's own."""
    prompts: str = "tiny"
    """Prompt file: a name in `asl_min/prompts/` or a path."""
    corpus: str = "asl_min/world/data/target/corpus.jsonl"
    """Passages, JSONL in the Search-R1 form."""
    questions: str | None = "asl_min/world/data/target/questions.jsonl"
    """Evaluation questions with gold answers (FlashRAG form); null: held-out accuracy is not measured."""
    judgments: str | None = "asl_min/world/data/target/judgments.jsonl"
    """Gold judgments of candidate answers; null: the GRM's accuracy is not measured."""
    oracle: Literal["base", "target"] | None = "target"
    """Half of the embedded world whose oracle measures the generated tasks; null for a corpus of one's own."""
    search_url: str | None = None
    """Address of a retrieval server that searches instead of the built-in BM25; the corpus then only gives the
    topics."""
    top_k: PositiveInt = 3
    """Passages a query (paper: 3)."""

    # what differs between recipes
    policy_tasks: Count = 0
    """The policy phase trains on at most this many tasks, drawn at random; 0: all."""
    labelled_questions: str | None = "asl_min/world/data/target/train_questions.jsonl"
    """Gold questions that replace the generated tasks; read by the recipe `search_r1` alone."""
    labelled_judgments: str | None = "asl_min/world/data/target/train_judgments.jsonl"
    """Real verification data (question, answer, label); read in round `inject_round` alone."""
    inject_round: Count = 0
    """Round whose GRM phase also gets real verification data; 0: none."""
    inject_share: PositiveFloat = 0.01
    """Right and wrong triples injected, each as a share of the tasks that the PG writes in the whole run (paper: 1% of
    a training set)."""
    oracle_from_round: Count = 0
    """From this round on the oracle gives the verdicts that reward PG and policy; read by the recipe `oracle_judge`
    alone."""

    # episodes
    max_turns: Turns = 6
    """Assistant turns an episode (paper: 9). At most 64, since an episode of seed s samples turn t with the seed
    64 s + t."""
    max_turn_tokens: PositiveInt = 96
    """Sampled tokens a turn (paper: 2048)."""
    max_episode_tokens: PositiveInt = 640
    """Tokens an episode, prompt and tool responses included (paper: 10240)."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature of all three roles in training (paper: 1)."""
    generation_batch_size: PositiveInt = 1024
    """Episodes whose turn is sampled in one batch; with a server, requests under way at once (128 a server)."""
    backend: Literal["local", "vllm", "tgi"] = "local"
    """What samples: "local", the trainer's own model; "vllm" or "tgi", a server."""
    server_url: str | list[str] | None = None
    """Address of the generation server, such as http://localhost:8000; a list: several, which share the requests."""
    server_folder: str = "runs/serving"
    """Where the trainer leaves weights for the servers; all must see it under this path."""
    server_tolerance: PositiveFloat = 0.05
    """Mean difference, nats a token, between the server's and the trainer's log-probabilities of a probe beyond which a
    run ends."""

    # optimisation
    quantization: Literal["bf16", "nf4"] | None = None
    """How the frozen base is held: null: float32; "bf16" (the same numbers in float32 on a CPU without units for it);
    "nf4": QLoRA, 4 bits with double quantisation, computed in bfloat16 (on a CPU float32)."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: a third more time, and activations of one layer instead of all."""
    adapters: Literal["shared", "per_role"] = "shared"
    """"shared": one LoRA adapter for the three roles, as the paper's one backbone; "per_role": one each."""
    lora_rank: PositiveInt = 16
    """Rank of the adapters, on every linear layer of the blocks; alpha is twice the rank."""
    learning_rate: PositiveFloat = 3e-4
    """AdamW, constant within a phase (paper: 1e-6 on full weights)."""
    clip: PositiveFloat = 0.2
    """Range of the importance ratio."""
    ratio_cap: Weight = 0.0
    """Each token's loss is weighted by trainer's over sampler's probability, at most this much; 0: not weighted. For
    samples of a server."""
    kl_coef: Weight = 0.0
    """Weight of the k3 estimate of the KL divergence (paper: 0)."""
    kl_reference: Literal["base", "previous"] = "base"
    """What that divergence is to: "base": the base model; "previous": the role as it was at the start of the phase."""
    minibatches: PositiveInt = 1
    """Optimizer steps a rollout batch; old log-probabilities are those before the first."""
    micro_batch_tokens: PositiveInt = 2048
    """Padded tokens of one forward and backward pass."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient clipping."""
    mixed_precision: Literal["no", "bf16"] | None = None
    """Accelerate's "no" or "bf16" ("no" on a CPU without units for it); null: what the launcher's config file says."""
    save_every: PositiveInt = 1
    """The phase's state goes to the disk after every this many steps, and after the last; a killed phase goes on from
    the last state."""
    threads: Count = 0
    """CPU threads; 0 leaves torch's choice."""
    trackers: Literal["tensorboard", "wandb", "trackio"] | None = None
    """Accelerate tracker that gets every step's metrics: "tensorboard", "wandb" or "trackio" (to be installed); null:
    none."""

    # 1. Prompt Generator phase
    pg_prompts: PositiveInt = 16
    """Meta prompts a step."""
    pg_samples: PositiveInt = 4
    """Tasks a meta prompt (paper: 4); at least 2 where the recipe compares the tasks of a prompt."""
    pg_max_steps: Count = 8
    """The phase ends after this many steps at the latest."""
    attempts: PositiveInt = 6
    """K: policy attempts a task (paper: 10)."""
    verify_samples: Count = 5
    """M: GRM votes on a task's own answer (paper: 5); 0: none, and every well-formed task counts as verified."""
    verify_threshold: Share = 0.8
    """Share of these votes below which a task earns nothing (paper: 0.8)."""
    max_tasks_first: PositiveInt = 2000
    """Tasks after which the phase ends in the first round (paper: 2000)."""
    max_tasks: PositiveInt = 5000
    """The same in later rounds (paper: 5000)."""

    fresh_share: Share = 0.33
    """Share of `round_rollouts` after which the trained writer stops writing fresh tasks; read by the recipes `r_zero`,
    `agent0`, `dr_zero` and `seif` (R-Zero's scripts spend about a third on them)."""

    # 2. Generative Reward Model phase
    grm_prompts: PositiveInt = 32
    """Verification triples a step (paper: 32)."""
    grm_samples: GroupSize = 4
    """Judgments a triple (paper: 4)."""
    grm_max_steps: Count = 16
    """The phase ends after this many steps at the latest."""
    grm_plateau: PositiveInt = 200
    """N of the plateau rule, steps (paper: 200)."""

    # 3. Policy phase
    policy_prompts: PositiveInt = 16
    """Tasks a step (paper: 32)."""
    policy_samples: GroupSize = 8
    """Episodes a task (paper: 4)."""
    policy_max_steps: Count = 16
    """The phase ends after this many steps at the latest."""
    policy_plateau: PositiveInt = 400
    """N of the plateau rule, steps (paper: 400)."""
    plateau_threshold: Weight = 0.005
    """Relative gain below which a phase has reached its plateau (paper: 0.005)."""
    width_rounds: Count = 1
    """Meta prompts made in rounds up to this vary by width, later ones by depth (paper: `meta_iter` <= 4, which counts
    phases, so round 1)."""

    meta_prompts: Literal["plain", "results"] = "plain"
    """What the next round's writer sees of a task: "plain": its question; "results": also the task's own answer and the
    most frequent one of the attempts, as in the released code."""

    # evaluation
    eval_split: Literal["test", "validation"] = "test"
    """"test": the first questions and judgments of the files; "validation": the next ones, to choose a learning rate
    on."""
    eval_per_hop: Count = 102
    """Held-out questions of each number of hops, the first ones of the file."""
    eval_greedy: bool = True
    """Measure accuracy at temperature 0 too."""
    eval_samples: Count = 0
    """Answers of the base to each held-out question, for pass@k and the majority's accuracy; 0: not measured."""
    eval_judgments: Count = 300
    """Gold judgments judged."""
    eval_tasks: Count = 384
    """Tasks on topics that the PG writes for its evaluation, and as many variants of these."""

    @property
    def name(self) -> str:
        """The name of the run: its arm, else its recipe."""
        return self.arm or self.recipe

    def path(self, value: str) -> Path:
        """A configured path: as given, or inside the package when only that exists."""
        return shipped(value)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """What no single value shows. Raises `ValueError`."""
        if self.max_turn_tokens > self.max_episode_tokens:
            episode = f"'max_episode_tokens' {self.max_episode_tokens!r}"
            raise ValueError(f"key 'max_turn_tokens' is {self.max_turn_tokens!r}, above {episode}")
        if "/" in self.arm or "\\" in self.arm:
            raise ValueError(f"key 'arm' is {self.arm!r}, but it names a folder and must not hold / or \\")
        if self.backend != "local" and not self.server_url:
            raise ValueError(f"key 'backend' is {self.backend!r}, which needs 'server_url'")
        if self.inject_round and not self.labelled_judgments:
            raise ValueError(f"key 'labelled_judgments' is None, but 'inject_round' is {self.inject_round}")
        if self.labelled_questions and self.labelled_questions == self.questions:
            raise ValueError(f"key 'labelled_questions' is {self.questions!r}, the questions of the evaluation")
        return self


MAY_CHANGE = frozenset({"rounds", "server_folder", "server_url", "save_every", "threads", "trackers"})
"""Keys that may differ when a run goes on: they say how and how long it is computed here, not what."""


def load_config(path: str | Path, **overrides: object) -> Config:
    """Read a YAML file, the package's own where there is no other, over its parents over the defaults, `overrides` over
    it. Raises `InputError` on unknown keys and impossible values."""
    check(overrides, "command line", whole=False)
    return check(_read(shipped(path), set()) | overrides, str(path))


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
    check(values, str(path), whole=False)
    return inherited | values


def read_yaml(text: str | bytes, where: str) -> object:
    """Raises `InputError` naming `where`."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist, say
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def check(values: dict, where: str, whole: bool = True) -> Config | None:
    """A `Config` of these values. Not `whole`: values that others will join, so that each is checked by itself alone.
    Raises `InputError` naming `where`, the key and the value."""
    known = [field.name for field in dataclasses.fields(Config)]
    for key in [key for key in values if key not in known]:
        near = difflib.get_close_matches(str(key), known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"{where}: unknown key '{key}' (value {values[key]!r}){hint}")
    try:
        return Config(**values)
    except ValidationError as error:
        fault = error.errors()[0]
    if fault["loc"]:
        wanted = fault["msg"].replace("Input should", "must")
        raise InputError(f"{where}: key '{fault['loc'][0]}' is {fault['input']!r}, {wanted}")
    if whole:
        raise InputError(f"{where}: {fault['ctx']['error']}")


def dump_config(config: Config) -> str:
    """Every value of a config as YAML."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
