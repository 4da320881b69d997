"""The one error that is written for the person at the keyboard."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one sentence that names the file or value, what was found, what is needed and what to do.
    parameters: names of the function's parameters to change, such as "dtype". Library code names no command-line flag;
    the command adds the flags of these parameters, prints the sentence without a traceback and exits with status 2.
    """

    def __init__(self, message: str, *parameters: str) -> None:
        super().__init__(message)
        self.parameters = parameters
