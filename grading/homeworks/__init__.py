"""The editions of the homework that can be graded. To add one, add a file here and a row in the table."""

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.homeworks.fall2024 import FALL2024
from grading.homeworks.fall2025 import FALL2025
from grading.homeworks.homework import Homework

HOMEWORKS = {homework.name: homework for homework in (FALL2024, FALL2025)}

DEFAULT = FALL2024.name


def chosen_homework(name: str) -> Homework:
    """The edition of that name. Raises GradingError if there is none."""
    if name not in HOMEWORKS:
        raise GradingError(f"there is no homework {printable(name)}; expected one of {', '.join(HOMEWORKS)}")
    return HOMEWORKS[name]
