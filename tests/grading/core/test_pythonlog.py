from grading.core.pythonlog import excerpt, find_error

FRAME = '  File "/submission/draw.py", line {}, in <module>'


def log(number: object) -> str:
    """A log whose traceback names that line."""
    return "\n".join(["Traceback (most recent call last):", FRAME.format(number), "KeyError: 'unet'"])


def test_an_error_names_the_submissions_own_line():
    assert str(find_error(log(7))) == "KeyError: 'unet' (draw.py, line 7)"


def test_a_script_that_prints_a_line_number_without_end_forces_no_error_of_the_grader():
    printed = log("9" * 5000)
    assert str(find_error(printed)) == "KeyError: 'unet'"
    assert excerpt(printed, 20) == printed.split("\n")
