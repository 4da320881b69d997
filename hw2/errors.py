"""The one error a person is meant to read."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one sentence that names the file or option, what was found, what was expected and what to do.
    Commands print it without a traceback and exit with status 2.
    """
