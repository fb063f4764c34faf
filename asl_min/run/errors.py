"""The one error that users are meant to see."""


class InputError(ValueError):
    """Bad input from the user: one line that names the file, the place and the value. Scripts exit with code 2 on
    it."""
