"""Real weights and real text from a package index: SmolLM2-135M and ten thousand leads of Wikipedia."""
