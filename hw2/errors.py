"""The one error that is written for the person at the keyboard."""

MAX_MESSAGE = 1000
"""Characters of a message; of a longer one the middle is left out, because it ends with what to do."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one sentence that names the file or value, what was found, what is needed and what to do.
    parameters: names of the function's parameters to change, such as "dtype". Library code names no command-line flag;
    the command adds the flags of these parameters, prints the sentence without a traceback and exits with status 2.
    What a file holds may be quoted: characters that cannot be printed are escaped, and long messages are shortened.
    """

    def __init__(self, message: str, *parameters: str) -> None:
        super().__init__(_fit_to_print(message))
        self.parameters = parameters


def _fit_to_print(message: str) -> str:
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in _shortened(message))
    return _shortened(shown)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE // 2]} .. {text[4 - MAX_MESSAGE // 2 :]}"
