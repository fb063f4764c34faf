"""Speed and memory, beside TRL and alone."""
