"""What samples tokens: the trainer's own model, or a generation server."""
