"""What keeps a run whole: its folder, checkpoints, processes, messages, and the guard around gold answers."""
