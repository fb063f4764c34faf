"""Names that earlier versions wrote into run folders and summaries, and what they are called now. Files on disk stay as
they are; whoever reads one passes it through here.
"""

MOVED = {"asl_min/data/": "asl_min/world/data/", "asl_min/tiny/": "asl_min/world/tiny/"}
"""Shipped files that a config may name, by the start of their path."""


RENAMED = {"generation_rows": "generation_batch_size"}
"""Config keys."""


def upgrade_config(values: dict) -> dict:
    """A config's keys and values as today's `Config` has them. `values`: of a config.yaml or of a summary's `config`."""
    return {RENAMED.get(key, key): _moved(value) for key, value in values.items()}


def _moved(value: object) -> object:
    for old, new in MOVED.items():
        if isinstance(value, str) and value.startswith(old):
            return new + value.removeprefix(old)
    return value
