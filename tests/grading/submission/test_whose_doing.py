"""Whole gradings of submissions that fail for what is, or is not, their own doing."""

import http.server
import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.results import Part
from grading.submission.assignment import Assignment
from grading.submission.grader import Grader
from tests.commands import ROOT
from tests.grading.sandboxed import needs_sandbox
from tests.grading.submission.test_submission import course

__all__ = ["course"]  # a fixture

FACES = ROOT / "fixtures" / "hw2_data"
DRAW = 'import sys, os, shutil\nfor n in os.listdir(sys.argv[1]):\n    shutil.copy(f"faces/{n[:2]}.png", sys.argv[2])\n'
RUN = 'python3 draw.py "$1" "$2"\n'


@pytest.fixture
def python(tmp_path):
    """An environment of our own Python, without packages."""
    site = tmp_path / "env" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "bin" / "python3").symlink_to(sys.executable)
    (tmp_path / "env" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    return site


@pytest.fixture
def assignment(course, python):
    return Assignment(course / "public", problems="2", judges="embedded", trust=True, python=python.parents[2])


@pytest.fixture
def student(tmp_path, course):
    """Makes a submission for Problem 2 that copies right faces after what it is given to do first."""

    def make(first="", name="b01", **files):
        folder = tmp_path / "class" / name
        folder.mkdir(parents=True)
        shutil.copytree(course / "public" / "face" / "GT", folder / "faces")
        (folder / "draw.py").write_text(first + DRAW)
        (folder / "hw2_2.sh").write_text(RUN)
        for file, text in files.items():
            (folder / file.replace("__", ".")).write_text(text)
        return folder

    return make


def graded(assignment, folder, tmp_path):
    result = Grader(assignment).grade(folder, tmp_path / "out" / folder.name)
    (line,) = result.lines
    return line, result


def add(python: Path, package: str) -> None:
    """Install a package, with the facts by which Python knows it."""
    (python / f"{package}.py").write_text("")
    facts = python / f"{package}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")


def test_a_missing_package_is_no_zero_and_once_it_is_there_only_that_submission_runs_again(
    assignment, student, tmp_path, python
):
    lacking = student("import pandas\n", "lacking", ran__txt="")
    whole = student("open('/dev/null').close()\n", "whole")
    line, result = graded(assignment, lacking, tmp_path)
    assert (line.status, line.points) == ("error", None)
    assert "The submission imports pandas, which the environment of the scripts lacks." in line.message
    cause = result.stages[-1].cause
    assert (cause.whose, cause.subject, cause.remedy) == (
        "machine", "pandas", "add pandas to the environment of the scripts",
    )  # fmt: skip
    first = graded(assignment, whole, tmp_path)[1]
    add(python, "pandas")
    line, _ = graded(assignment, lacking, tmp_path)
    assert (line.status, line.points) == ("pass", 10)
    assert graded(assignment, whole, tmp_path)[1] == first


def test_a_package_that_changes_its_version_makes_a_new_result(assignment, student, tmp_path, python):
    add(python, "omegaconf")
    folder = student(f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n")
    first = graded(assignment, folder, tmp_path)[1]
    facts = python / "omegaconf-1.0.dist-info" / "METADATA"
    facts.write_text(facts.read_text().replace("1.0", "2.0"))
    assert graded(assignment, folder, tmp_path)[1].record["times"] != first.record["times"]
    assert (tmp_path / "runs").read_text() == "xx"


def test_a_message_about_a_package_changes_nothing_where_all_outputs_are_there(assignment, student, tmp_path):
    folder = student("import sys; print(\"No module named 'pandas'\", file=sys.stderr)\nif 0: import pandas\n")
    assert graded(assignment, folder, tmp_path)[0].points == 10


def test_who_only_prints_that_a_package_is_missing_loses_the_points(assignment, student, tmp_path):
    folder = student("import json; raise SystemExit(\"ModuleNotFoundError: No module named 'json'\")\n")
    line, _ = graded(assignment, folder, tmp_path)
    assert (line.status, line.points) == ("fail", 0)


def test_the_exception_is_in_the_line_even_where_the_script_hides_it(assignment, student, tmp_path):
    folder = student("raise KeyError('unet')\n", hw2_2__sh=f"{RUN}exit 0\n")
    line, _ = graded(assignment, folder, tmp_path)
    assert "wrote nothing, but printed KeyError: 'unet' (draw.py, line 1)." in line.message


@pytest.fixture
def site():
    """A web site. `status` is what it answers from now on; `asked` counts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200
        asked = 0

        def do_GET(self):
            Handler.asked += 1
            self.send_response(Handler.status)
            self.end_headers()
            self.wfile.write(b"weights")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Handler.url = f"http://127.0.0.1:{server.server_address[1]}/weights.pth"
        yield Handler
        server.shutdown()


GET = "python3 -c \"import urllib.request as r; r.urlretrieve('{}', 'weights.pth')\"\n"


def test_a_host_that_refuses_for_now_is_no_zero_and_is_asked_again_the_next_time(assignment, student, tmp_path, site):
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh=GET.format(site.url))
    site.status = 503
    line, result = graded(assignment, folder, tmp_path)
    assert (line.status, line.points) == ("error", None)
    assert f"{site.url} answers 503 at present" in line.message
    assert [stage.status for stage in result.stages] == ["pass", "error", "error", "error"]
    site.status = 200
    assert graded(assignment, folder, tmp_path)[0].points == 10


def test_a_wrong_link_is_the_submissions_own(assignment, student, tmp_path, site):
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh=GET.format(site.url))
    site.status = 404
    line, result = graded(assignment, folder, tmp_path)
    assert (line.status, line.points) == ("fail", 0)
    assert "there is no such file" in result.stages[1].message
    assert result.stages[1].cause.whose == "submission"


def test_a_download_that_failed_once_is_tried_again_at_once_where_its_link_works(assignment, student, tmp_path, site):
    mark = tmp_path / "tried"
    once = f"[ -e {mark} ] || {{ touch {mark} half; echo 'Connection reset by peer'; exit 4; }}\n"
    begins_anew = "[ ! -e half ] || exit 9\n"
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh=once + begins_anew + GET.format(site.url))
    assert graded(assignment, folder, tmp_path)[0].points == 10


def test_a_fixed_copy_stays_fixed_where_the_download_is_tried_again(assignment, student, tmp_path, site):
    mark = tmp_path / "tried"
    fetch = f"[ -e {mark} ] || {{ touch {mark}; echo 'Connection reset by peer'; exit 4; }}\n" + GET.format(site.url)
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh=fetch)
    (folder / "hw2_2.sh").rename(folder / "HW2_2.SH")
    result = Grader(replace(assignment, fix=True)).grade(folder, tmp_path / "out")
    assert result.points == pytest.approx(7)
    assert not any("replaced" in check.message for check in result.warnings)


def test_who_only_prints_that_the_network_is_down_loses_the_points(assignment, student, tmp_path, site):
    fetch = f"echo 'unable to resolve host address'; exit 4 # wget {site.url}\n"
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh=fetch)
    line, _ = graded(assignment, folder, tmp_path)
    assert (line.status, line.points) == ("fail", 0)
    assert site.asked == 2


def test_a_failed_download_that_ends_well_is_remembered_by_the_script_that_needs_it(
    assignment, student, tmp_path, site
):
    fetch = f"{GET.format(site.url)} || echo 'HTTP Error 503'\necho done\n"
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh=fetch.replace("\n ||", " ||"))
    site.status = 503
    line, _ = graded(assignment, folder, tmp_path)
    assert (line.status, line.points) == ("error", None)
    assert f"{site.url} answers 503" in line.message
    site.status = 200
    assert graded(assignment, folder, tmp_path)[0].points == 10


def test_a_failed_download_costs_nothing_where_no_script_needs_it(assignment, student, tmp_path, site):
    fetch = f"{GET.format(site.url)} || echo 'HTTP Error 503'\necho done\n"
    folder = student(hw2_download_ckpt__sh=fetch.replace("\n ||", " ||"))
    site.status = 503
    assert graded(assignment, folder, tmp_path)[0].points == 10


def test_what_a_student_reads_of_the_machines_faults_has_no_path_of_staff(assignment, student, tmp_path):
    folder = student("import pandas\n")
    graded(assignment, folder, tmp_path)
    out = tmp_path / "out" / "b01"
    said = json.loads((out / "results.json").read_text())
    assert str(tmp_path) not in json.dumps(said)
    assert "pandas" in (out / "report.html").read_text()


CASES = ROOT.parent / "shared" / "cases" / "submissions"
RIGHT = {
    ("hub_at_run_time", "3"): "loads openai/clip-vit-large-patch14 from the Hugging Face Hub",
    ("no_package", "1"): "imports pandas",
    ("no_package", "3"): "imports omegaconf",
    ("net_down", "1"): "cannot be reached from the grading machine",
    ("needs_gpu", "1"): "needs a GPU",
    ("exit_zero", "1"): "RuntimeError: the real reason (draw.py, line 4)",
    ("writes_here", "1"): "ran to its end",
    ("crlf", "2"): "Windows line ends",
    ("old_name", "1"): "rename it to hw2_download_ckpt.sh",
    ("nested", "2"): "There is hw2-main/hw2_2.sh",
    ("nested_repository", "2"): "There is dlcv-fall-2024-hw2-student/hw2_2.sh",
    ("case", "2"): "There is HW2_2.sh",
    ("ext", "2"): "There is hw2_2.sh.txt",
    ("backslash", "2"): "make the zip file again",
    ("template_only", "1"): "ran to its end in",
    ("link", "2"): "00.png is a link",
    ("hardlink", "2"): "hard link",
    ("jpg", "2"): "there is 00.jpg",
    ("name_with_narrow_space", "2"): "The mean squared error",
    ("ok", "2"): "The mean squared error",
}
NOT_CHECKED = {"hub_at_run_time", "no_package", "net_down", "needs_gpu"}
IMPORTS_MUCH = {"hub_at_run_time", "needs_gpu"}
"""Six seconds for PyTorch or transformers; `tests/grading/causes` judges what such scripts print."""


@needs_sandbox
@pytest.mark.parametrize(
    ("case", "problem"),
    [pytest.param(*each, marks=[pytest.mark.long] if each[0] in IMPORTS_MUCH else []) for each in RIGHT],
)
def test_the_collected_cases_end_as_is_right(case, problem, tmp_path, bundled_model):
    if not (CASES / case).is_dir():
        pytest.skip("the collected cases are not here")
    asked = Assignment(
        FACES, problems=problem, unet=bundled_model, stable_diffusion=ROOT / "hw2" / "models" / "small_sd",
        judges="embedded", host_network=True,
    )  # fmt: skip
    result = Grader(asked).grade(CASES / case, tmp_path / "out")
    assert {line.status for line in result.lines} == {"error" if case in NOT_CHECKED else "fail"}
    assert all(RIGHT[case, problem] in line.message for line in result.lines), result.lines
    assert result.of(int(problem), Part.PUBLIC) or result.of(int(problem))


def test_the_pages_say_the_time_scale_and_staff_see_the_remedy(assignment, student, tmp_path):
    folder = student("import pandas\n")
    graded(replace(assignment, time_scale=2.0), folder, tmp_path)
    page = (tmp_path / "out" / "b01" / "report.html").read_text()
    assert "add pandas to the environment of the scripts" in page
    assert "add pandas" not in (tmp_path / "out" / "b01" / "student.html").read_text()
    assert "time limits x 2" in page.lower()


DEEP = """import os
for _ in range(60):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open("w.pth", "w").close()
"""


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount an overlay; a copy of such folders cannot be made")
def test_folders_deeper_than_any_path_are_graded_like_any_other(assignment, student, tmp_path):
    folder = student("open('weights.pth')\n", hw2_download_ckpt__sh="python3 deep.py; exit 3\n", deep__py=DEEP)
    line, _ = graded(replace(assignment, trust=False, host_network=True, python=Path(sys.prefix)), folder, tmp_path)
    assert (line.status, line.points) == ("fail", 0)
