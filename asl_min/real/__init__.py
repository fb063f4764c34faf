"""Real weights, real articles and questions by people."""
