"""Agentic Self-Learning: a closed loop of task writing, solving and judging."""

import sys

sys.modules.setdefault(
    "bitsandbytes", None
)  # peft imports it wherever it is found, which takes seconds; `model.find_bitsandbytes` lets it in
