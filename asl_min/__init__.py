"""Agentic Self-Learning: a closed loop of task writing, solving and judging.

    import asl_min
    run = asl_min.Run.create("runs/mine", "configs/tiny.yaml", rounds=1)

`Run` (see `asl_min/tools/api.py`) is all that a notebook needs. Importing the package loads nothing else.
"""

__all__ = ["Run"]


def __getattr__(name: str) -> object:
    """`Run`, imported when it is first used, since torch comes with it."""
    if name == "Run":
        from asl_min.tools.api import Run

        return Run
    raise AttributeError(f"module 'asl_min' has no attribute {name!r}")
