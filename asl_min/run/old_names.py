"""Names that earlier versions wrote into run folders and summaries, and what they are called now. Files on disk stay as
they are; whoever reads one passes it through here.
"""

import json

MOVED = {"asl_min/data/": "asl_min/world/data/", "asl_min/tiny/": "asl_min/world/tiny/"}
"""Shipped files that a config may name, by the start of their path."""


RENAMED = {"generation_rows": "generation_batch_size"}
"""Config keys."""
MODES = {
    ("asl", "reference"): "asl_hybrid",
    ("asl", "self"): "asl_gen_rm",
    ("oracle_judge", "self"): "oracle_judge_gen_rm",
}
"""Today's recipes, by the recipe and the `grm_labels` of a config."""
ROWS = {"kind": "prompt", "stop": "finish_reason"}
"""Keys of episodes, meta prompts and evaluated answers."""


def upgrade_config(values: dict) -> dict:
    """A config's keys and values as today's `Config` has them. `values`: of a config.yaml or of a summary's
    `config`."""
    values = {RENAMED.get(key, key): _moved(value) for key, value in values.items()}
    labels = values.pop("grm_labels", "reference")
    rewards = values.pop("pg_reward", None), values.pop("policy_reward", None)
    if None not in rewards:
        arm, recipe = values["recipe"], _recipe(*rewards, values.get("oracle_from_round", 0))
        values |= {"arm": "" if arm == recipe else arm, "recipe": recipe}
    mode = MODES.get((values.get("recipe"), labels))
    return values | ({"arm": values.get("arm") or values["recipe"], "recipe": mode} if mode else {})


def _recipe(task_reward: str, policy_reward: str, oracle_from_round: int) -> str:
    """The file in `asl_min/recipes/` that does what these settings did before there were such files."""
    if oracle_from_round:
        return "oracle_judge"
    if policy_reward == "gold":
        return "search_r1"
    if task_reward == "entropy_verify":
        return "rule_reward" if policy_reward == "reference" else "asl"
    return {"drzero": "dr_zero"}.get(task_reward, task_reward)


def upgrade_row(row: dict) -> dict:
    """A row of a phase's or an evaluation's file, with today's keys."""
    return {ROWS.get(key, key): value for key, value in row.items()}


def upgrade_summary(summary: dict) -> dict:
    """A summary.json with today's config and the arm's name."""
    config = upgrade_config(summary["config"])
    arm = config["arm"] or config["recipe"]
    rest = {key: value for key, value in summary.items() if key not in ("recipe", "arm", "config", "rounds")}
    rounds = json.loads(json.dumps(summary["rounds"]).replace('"cover":', '"sub_em":'))
    return {"arm": arm, "recipe": config["recipe"], "config": config} | rest | {"rounds": rounds}


def _moved(value: object) -> object:
    for old, new in MOVED.items():
        if isinstance(value, str) and value.startswith(old):
            return new + value.removeprefix(old)
    return value
