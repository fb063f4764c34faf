"""The embedded world: facts, passages, questions, its oracle, and the tiny base that is trained on it."""
