"""What went wrong on the grader's side."""

from __future__ import annotations

from grading.core.text import printable


class GradingError(Exception):
    """The call cannot be carried out; the message is one sentence that says what to do. Exit status 2."""


def failure_sentence(error: Exception) -> str:
    """Why something could not be done, as a sentence: our failures must never look like the submission's."""
    if isinstance(error, GradingError):
        return f"The grader could not do its part: {error}."
    if isinstance(error, OSError):
        name = printable(str(error.filename or "a file"))
        return f"The grader could not do its part: {name} could not be used: {error.strerror}."
    return f"The grader itself failed, please report it ({printable(f'{type(error).__name__}: {error}')})."
