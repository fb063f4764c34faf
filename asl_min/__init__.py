"""Agentic Self-Learning: a closed loop of task writing, solving and judging."""
