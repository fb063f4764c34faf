"""The three roles: what each one sees, what is read from its episode, what it is rewarded for."""
