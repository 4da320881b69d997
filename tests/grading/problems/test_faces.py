import json
import os

import numpy as np
import pytest
from PIL import Image

from grading.core.errors import GradingError
from grading.problems.faces import grade_faces
from tests.grading.here import grade_here


def save(folder, name, pixels):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / name)


@pytest.fixture
def folders(tmp_path):
    """Ground truth of three grey 8x8 images, and outputs 0, 2 and 4 levels away from it."""
    for i in range(3):
        save(tmp_path / "gt", f"{i:02d}.png", np.full((8, 8, 3), 100))
        save(tmp_path / "out", f"{i:02d}.png", np.full((8, 8, 3), 100 + 2 * i))
    return tmp_path / "out", tmp_path / "gt"


def messages(result, status="fail"):
    return [check.message for check in result.checks if check.status == status]


def test_the_score_is_the_mean_over_images(folders):
    result = grade_faces(*folders, 20.0)
    assert result.mse_per_image == {"00.png": 0.0, "01.png": 4.0, "02.png": 16.0}
    assert result.mse == pytest.approx(20 / 3)
    assert result.status == "pass"
    assert result.psnr_per_image["00.png"] is None
    assert result.psnr_per_image["01.png"] == pytest.approx(10 * np.log10(255**2 / 4))
    assert result.psnr == pytest.approx(np.mean([10 * np.log10(255**2 / error) for error in (4, 16)]))
    assert result.ssim_per_image["00.png"] == 1.0
    assert result.ssim == pytest.approx(np.mean(list(result.ssim_per_image.values())))
    assert result.found == result.expected == ["00.png", "01.png", "02.png"]


@pytest.mark.parametrize(("threshold", "status"), [(20 / 3 + 1e-9, "pass"), (20 / 3, "fail"), (1, "fail")])
def test_the_score_must_be_below_the_threshold(folders, threshold, status):
    result = grade_faces(*folders, threshold=threshold)
    assert result.status == status
    assert bool(messages(result)) == (status == "fail")


def test_a_missing_image_fails_and_is_left_out_of_the_mean(folders):
    (folders[0] / "02.png").unlink()
    result = grade_faces(*folders, 20.0)
    assert result.status == "fail"
    assert result.mse == 2.0
    assert result.missing == ["02.png"]
    assert "02.png is missing." in messages(result)


def test_a_refused_image_fails_and_the_others_are_scored(folders):
    save(folders[0], "01.png", np.zeros((4, 8, 3)))
    result = grade_faces(*folders, 20.0)
    assert result.status == "fail"
    assert result.mse_per_image == {"00.png": 0.0, "02.png": 16.0}
    assert result.missing == []
    assert messages(result) == [
        "1 of 3 faces cannot be scored: no points. The mean squared error over the other 2 is 8.0000.",
        "01.png is 8x4 pixels; expected 8x8.",
    ]


def test_where_faces_are_missing_no_check_passes_and_the_first_says_what_it_costs(folders):
    (folders[0] / "00.png").unlink()
    (folders[0] / "01.png").unlink()
    result = grade_faces(*folders, 20.0)
    assert {check.status for check in result.checks} == {"fail"}
    said = "2 of 3 faces are missing: no points. The mean squared error over the other is 16.0000."
    assert messages(result)[0] == said
    save(folders[0], "00.png", np.zeros((4, 8, 3)))
    assert messages(grade_faces(*folders, 20.0))[0].startswith(
        "2 of 3 faces are missing or cannot be scored: no points"
    )


def test_a_converted_image_is_scored_with_a_warning(folders):
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(folders[0] / "01.png")
    result = grade_faces(*folders, 20.0)
    assert result.status == "pass"
    assert result.mse_per_image["01.png"] == 0.0
    assert messages(result, "warning") == ["01.png is greyscale; it was graded as the RGB image that it shows."]


def test_other_files_are_named_and_cost_nothing(folders):
    for i in range(7):
        (folders[0] / f"note{i}.txt").touch()
    result = grade_faces(*folders, 20.0)
    assert result.status == "pass"
    assert len(result.unexpected) == 7
    assert messages(result, "warning") == [
        "The grader ignored 7 unexpected entries: note0.txt, note1.txt, note2.txt, note3.txt, note4.txt and 2 more."
    ]


def test_an_output_folder_that_does_not_exist_fails_with_every_image_missing(folders):
    result = grade_faces(folders[0] / "nowhere", folders[1], 20.0)
    assert result.status == "fail"
    assert result.mse is None
    assert len(result.missing) == 3
    assert any("nowhere does not exist" in message for message in messages(result))


def test_an_output_that_is_a_file_cannot_be_graded(folders):
    with pytest.raises(GradingError, match=r"00.png is a file; expected the folder"):
        grade_faces(folders[0] / "00.png", folders[1], 20.0)


def test_ground_truth_problems_are_never_the_students(folders):
    out, gt = folders
    with pytest.raises(GradingError, match="cannot be listed"):
        grade_faces(out, gt / "nowhere", 20.0)
    (gt / "01.png").write_bytes(b"broken")
    with pytest.raises(GradingError, match=r"gt/01.png is not a PNG image"):
        grade_faces(out, gt, 20.0)
    for path in gt.iterdir():
        path.unlink()
    with pytest.raises(GradingError, match="holds no PNG images"):
        grade_faces(out, gt, 20.0)


def test_staff_may_link_to_their_ground_truth(folders, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "00.png").symlink_to(folders[1] / "00.png")
    assert grade_faces(folders[0], linked, 20.0).mse_per_image == {"00.png": 0.0}


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf")])
def test_a_threshold_must_be_a_positive_number(folders, threshold):
    with pytest.raises(GradingError, match="expected a positive number"):
        grade_faces(*folders, threshold=threshold)


# --- real outputs of a published solution ---


@pytest.mark.parametrize(
    ("eta", "mean"), [("0.00", 0.2630), ("0.25", 680.97), ("0.50", 2017.55), ("0.75", 3634.73), ("1.00", 4846.34)]
)
def test_a_published_solutions_faces_get_their_published_scores(shared_data, eta, mean):
    result = grade_faces(shared_data / "peer_outputs/faces" / f"eta_{eta}", shared_data / "hw2_data/face/GT", 20.0)
    assert result.mse == pytest.approx(mean, abs=0.005)
    assert result.missing == [f"{i:02d}.png" for i in range(4, 10)]
    if eta == "0.00":
        rounded = {name: round(value, 4) for name, value in result.mse_per_image.items()}
        assert rounded == {"00.png": 0.1559, "01.png": 0.5182, "02.png": 0.1678, "03.png": 0.2099}


# --- the command, as a person runs it ---


def test_passing_and_failing_have_exit_status_0_and_1(folders):
    run = grade_here("faces", *folders)
    assert run.returncode == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in run.stdout.splitlines() if "│" in line]
    assert rows[0] == ["00.png", "0.0000", "identical", "1.0000"]
    assert rows[1][:3] == ["01.png", "4.0000", "42.11 dB"]
    assert ["MSE", "6.6667", "below 20.0000"] in rows
    assert ["PSNR", "39.10 dB", ""] in rows
    assert run.stderr == ""
    assert grade_here("faces", *folders, "--threshold", 5).returncode == 1


def test_json_on_stdout_is_one_object_and_nothing_else(folders):
    (folders[0] / "stray.txt").touch()
    run = grade_here("faces", *folders, "--json", "-")
    result = json.loads(run.stdout)
    assert result["problem"] == "faces"
    assert result["status"] == "pass"
    assert result["mse"] == pytest.approx(20 / 3)
    assert result["mse_per_image"] == {"00.png": 0.0, "01.png": 4.0, "02.png": 16.0}
    assert result["threshold"] == 20
    assert result["expected"] == result["found"] == ["00.png", "01.png", "02.png"]
    assert result["missing"] == []
    assert result["unexpected"] == ["stray.txt"]
    assert {tuple(sorted(check)) for check in result["checks"]} == {("message", "name", "status")}


def test_json_in_a_file_comes_with_the_table(folders, tmp_path):
    run = grade_here("faces", *folders, "--json", tmp_path / "r.json")
    assert "verdict  pass" in run.stdout
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(
        grade_here("faces", *folders, "--json", "-").stdout
    )
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_done_is_one_sentence_and_exit_status_2(folders, tmp_path):
    run = grade_here("faces", folders[0], tmp_path / "nowhere", "--json", "-")
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "ground truth folder" in run.stderr
    result = json.loads(run.stdout)
    assert result["status"] == "error"
    assert result["mse"] is None
    run = grade_here("faces", *folders, "--json", tmp_path / "no" / "where.json")
    assert run.returncode == 2
    assert "where.json could not be written: No such file or directory." in run.stderr


def test_odd_calls_are_errors_and_never_a_failed_submission(folders, tmp_path):
    for odd in (
        (*folders, "--threshold", "nan", "--json", "-"),
        (*folders, "--json", "."),
        (*folders, "--json", tmp_path),
        (folders[0] / ("n" * 300), folders[1]),
    ):
        run = grade_here("faces", *odd)
        assert run.returncode == 2, odd
        assert run.stderr.count("\n") == 1, run.stderr
    (folders[1] / "00.png").unlink()
    (folders[1] / "00.png").symlink_to(folders[1] / "00.png")
    run = grade_here("faces", *folders)
    assert run.returncode == 2
    assert "gt/00.png is a link to itself" in run.stderr
    assert not list(tmp_path.rglob("*.partial"))


def test_json_goes_through_a_pipe_or_link_and_replaces_neither(folders, tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert grade_here("faces", *folders, "--json", tmp_path / "link.json").returncode == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["status"] == "pass"
    assert grade_here("faces", *folders, "--json", "/dev/null").returncode == 0
    assert not os.path.isfile("/dev/null")


def test_a_terminal_without_unicode_still_gets_its_table(folders):
    (folders[0] / "é☃.png").touch()
    run = grade_here("faces", *folders, encoding="ascii")
    assert run.returncode == 0
    assert "\\u2603" in run.stdout


def test_hostile_names_are_shown_as_text(folders):
    out, gt = folders
    for name in (b"\x1b[31mred.png", b"[bold]x.png", b"new\nline.png", b"\xff.png"):
        with open(os.path.join(os.fsencode(out), name), "wb"):
            pass
        os.link(gt / "00.png", os.path.join(os.fsencode(gt), name))
    run = grade_here("faces", out, gt)
    assert run.returncode == 1
    assert "\x1b" not in run.stdout
    for shown in ("\\x1b[31mred.png", "[bold]x.png", "new\\nline.png", "\\udcff.png"):
        assert f"{shown} is empty; expected a PNG image." in run.stdout
    json.loads(grade_here("faces", out, gt, "--json", "-").stdout)
