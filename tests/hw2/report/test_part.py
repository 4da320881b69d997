import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from hw2.__main__ import app
from hw2.errors import InputError
from hw2.figures import image_grid
from hw2.progress import silent
from hw2.report.commands import _problems
from hw2.report.inputs import FIXTURES, chosen_inputs
from hw2.report.part import Part, make, numbers_csv
from tests.markdown import documented_fields


@dataclasses.dataclass(frozen=True)
class Data:
    error: float
    names: list[str]
    image: np.ndarray


def counting_part():
    calls = []

    def compute(inputs, on_step):
        calls.append("computed")
        return Data(len(calls) + 0.1, ["a"], np.full((4, 4, 3), len(calls), np.uint8))

    def draw(data):
        calls.append("drawn")
        return {"grid": image_grid([[data.image]], row_labels=["r"], column_labels=["c"], title="t")}

    return Part("part", 2, Data, compute, draw=draw), calls


@pytest.fixture
def data(tmp_path):
    shutil.copytree(FIXTURES / "hw2_data", tmp_path / "data")
    return tmp_path / "data"


def inputs_of(data=None, **changes):
    words = sorted((FIXTURES / "submissions" / "reference" / "learned").glob("*.safetensors"))
    given = {"unet": FIXTURES.parent / "hw2/models/face_unet.safetensors", "digits": None, "stable_diffusion": None}
    return chosen_inputs(data, **{**given, "clip": None, "embeddings": words, "device": "cpu", **changes})


def test_a_second_run_reads_what_the_first_one_kept(tmp_path, data):
    part, calls = counting_part()
    first = make(part, inputs_of(data), tmp_path / "out", silent)
    again = make(part, inputs_of(data), tmp_path / "out", silent)
    assert calls == ["computed", "drawn"]
    assert again.numbers == first.numbers == {"error": 1.1, "names": ["a"]}
    np.testing.assert_array_equal(again.data.image, first.data.image)
    assert again.seconds == first.seconds
    kept = json.loads((tmp_path / "out" / "part.json").read_text())
    assert list(kept) == documented_fields("`figures/PART.json` of `report`")


@pytest.mark.parametrize("change", ["input", "picture", "table", "numbers"])
def test_a_change_of_an_input_or_of_what_was_kept_is_noticed(tmp_path, data, change):
    part, calls = counting_part()
    make(part, inputs_of(data), tmp_path / "out", silent)
    if change == "input":
        (data / "face" / "GT" / "03.png").write_bytes(b"another")
    elif change == "picture":
        (tmp_path / "out" / "part_grid.svg").unlink()
    elif change == "table":
        (tmp_path / "out" / "part.csv").unlink()
    else:
        (tmp_path / "out" / "part.json").write_text("{")
    assert make(part, inputs_of(data), tmp_path / "out", silent).numbers["error"] > 1.1
    assert calls.count("computed") == 2


def test_the_table_has_every_number_at_its_place_as_exact_as_it_was():
    numbers = {"error": 0.1 + 0.2, "word": 'a "quoted", 詞', "each": [[1, 2.5], [True]], "of": {"x": 7}, "none": []}
    rows = list(csv.reader(numbers_csv(numbers).decode().splitlines()))
    assert rows == [
        ["field", "index 1", "index 2", "value"],
        ["error", "", "", "0.30000000000000004"],
        ["word", "", "", 'a "quoted", 詞'],
        ["each", "0", "0", "1"],
        ["each", "0", "1", "2.5"],
        ["each", "1", "0", "True"],
        ["of", "x", "", "7"],
    ]


def test_the_table_beside_a_figure_has_its_numbers(tmp_path, data):
    part, _ = counting_part()
    made = make(part, inputs_of(data), tmp_path / "out", silent)
    assert (tmp_path / "out" / "part.csv").read_bytes() == numbers_csv(made.numbers)


def test_an_input_of_another_problem_changes_nothing(tmp_path, data):
    part, calls = counting_part()
    make(part, inputs_of(data), tmp_path / "out", silent)
    (data / "clip_zeroshot" / "id2label.json").write_text("{}")
    make(part, inputs_of(data), tmp_path / "out", silent)
    assert calls.count("computed") == 1


MISSING = {
    1: ["digits"],
    2: ["face/noise", "face/GT", "face/GT/07.png", "unet"],
    3: [
        "clip_zeroshot/val",
        "clip_zeroshot/id2label.json",
        "textual_inversion/input.json",
        "textual_inversion/0",
        "stable_diffusion",
        "clip",
        "embeddings",
    ],
}


@pytest.mark.parametrize(("problem", "name"), [(p, name) for p, names in MISSING.items() for name in names])
def test_a_missing_input_is_named_before_the_work_begins(data, tmp_path, problem, name):
    nowhere = tmp_path / "nowhere"
    changes = {}
    if name in ("digits", "unet", "stable_diffusion"):
        changes = {name: nowhere}
    elif name == "clip":
        changes = {"clip": str(nowhere)}
    elif name == "embeddings":
        changes = {"embeddings": [nowhere]}
    elif (data / name).is_dir():
        shutil.rmtree(data / name)
    else:
        (data / name).unlink()
    with pytest.raises(InputError) as found:
        inputs_of(data, **changes).check([problem])
    assert (str(nowhere) if changes else name.rpartition("/")[2]) in str(found.value)


@pytest.mark.parametrize(("problem", "option"), [(1, "digit_log"), (3, "word_log")])
@pytest.mark.parametrize("content", [None, b"", b"curve,step,value\nloss,1,0.5\n", b"curve,step,value\nloss,1,x\n"])
def test_a_log_without_the_curves_is_named_before_the_work_begins(tmp_path, problem, option, content):
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"log\.csv (has no|is not a CSV)") as found:
        inputs_of(None, **{option: path}).check([problem])
    assert found.value.parameters == (option,)
    assert "\n" not in str(found.value)


def test_the_embedded_inputs_are_complete():
    inputs_of().check([1, 2, 3])


def typed(*words):
    """The command's exit_code, stdout and stderr."""
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


def test_the_command_refuses_a_missing_file_in_one_sentence_and_writes_no_page(tmp_path, data):
    (data / "face" / "GT" / "00.png").unlink()
    done = typed("report", "--data", data, "--output", tmp_path / "out", "--problems", "2", "--unet",
                 FIXTURES.parent / "hw2/models/face_unet.safetensors")  # fmt: skip
    assert done.exit_code == 2
    assert done.stderr.count("hw2:") == 1
    assert "00.png is not a file; expected the ground truth of noise 00" in done.stderr.replace("\n", "")
    assert not (tmp_path / "out").exists()


def test_problems_are_some_of_three_each_once():
    assert _problems("3, 1") == (1, 3)
    for wrong in ("", "4", "1,1", "1;2"):
        with pytest.raises(InputError, match="expected some of 1,2,3"):
            _problems(wrong)


def test_the_commands_log_of_digits_is_not_the_programs_own_log(tmp_path):
    path = tmp_path / "nothing"
    done = typed("report", "--problems", "1", "--digit-log", path, "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert "has no TensorBoard log; give the output folder of a training (--digit-log)" in done.stderr.replace("\n", "")
    assert not path.exists()


def test_a_report_is_embedded_if_one_file_of_its_problems_is(tmp_path, data):
    own = tmp_path / "own"
    assert not inputs_of(data, unet=own).embedded([2])
    assert inputs_of(data).embedded([2])  # with the bundled weights
    assert inputs_of(unet=own).embedded([2])  # with the embedded data
    assert inputs_of(data, unet=own).embedded([1, 2])  # with the bundled digit model
    words = {"embeddings": [own], "clip": str(own), "stable_diffusion": own}
    assert not inputs_of(data, **words).embedded([3])
    assert inputs_of(data, **words | {"clip": None}).embedded([3])
