"""What students are told about their folder. A clean folder gets no finding; each fault is put into one."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.probes import Page
from grading.homeworks import chosen_homework
from grading.preflight.handin import MAX_SHOWN, examine_handin
from tests.grading.deep import deep_place, nest
from tests.grading.here import grade_here
from tests.grading.sandboxed import ROOT, needs_sandbox

REFERENCE = ROOT / "fixtures" / "submissions" / "reference"

CLEAN = {
    "hw2_1.sh": '#!/bin/bash\npython3 digits/infer.py --out "$1"\n',
    "hw2_2.sh": '#!/bin/bash\ncd faces && python3 main.py "${1}" "${2}" "${3}"\n',
    "hw2_3.sh": '#!/bin/bash\npython3 -m concepts.draw "$@"\n',
    "hw2_download_ckpt.sh": "#!/bin/bash\n# gdown https://drive.google.com/drive/folders/1abc\ngdown 1"
    + "a" * 32
    + "\n",
    "digits/infer.py": "import os\nimport torch, cv2\nfrom net import Net\nfor digit in range(10):\n"
    "    os.makedirs(f'{digit}', exist_ok=True)\n    for i in range(50):\n        print(f'{digit}_{i:03d}.png')\n",
    "digits/net.py": '"""Needs cuda:1 and /home/me."""\nfrom torch import nn\nclass Net(nn.Module): pass\n',
    "digits/train.py": "import wandb, lpips\nx = '/home/me/'\ny = 'cuda:3'\nz = [f'{i:02d}.pt' for i in range(10)]\n",
    "faces/main.py": "import os, pathlib, sys\nos.makedirs(sys.argv[2], exist_ok=True)\nx = open('/tmp/x')\n"
    "for path in pathlib.Path(sys.argv[1]).glob('*.pt'): print(path)\n",
    "concepts/draw.py": "import pathlib, sys\nfrom transformers import CLIPTextModel\nfrom .words import WORDS\n"
    "CLIPTextModel.from_pretrained('openai/clip-vit-large-patch14')\npathlib.Path(sys.argv[2]).mkdir(exist_ok=True)\n",
    "concepts/words.py": "WORDS = []\n",
    ".git/config": "[core]\n\tfsmonitor = touch /tmp/pwned\n",
    "faces/__pycache__/main.cpython-312.pyc": "x",
}


@pytest.fixture
def told(tmp_path):
    """The sentences that are no passes, as (status, sentence), of a clean folder with changed files."""

    def told(changes=None, problems=(1, 2, 3), ask=None):
        folder = tmp_path / "handin"
        for name, content in {**CLEAN, **(changes or {})}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return answers(folder, problems, ask)

    return told


def answers(folder, problems=(1, 2, 3), ask=None):
    homework = chosen_homework("fall2024")
    homework = replace(homework, problems=tuple(each for each in homework.problems if each.number in problems))
    report = examine_handin(folder, homework, ask)
    return [(each.status, each.sentence) for each in report.findings if each.status != "pass"]


def test_a_clean_folder_is_told_nothing_but_what_passed(told):
    assert told() == []


def test_training_code_that_no_script_reaches_may_do_what_it_likes(told):
    changed = CLEAN["digits/infer.py"] + "import train\n"
    assert {status for status, _ in told({"digits/infer.py": changed})} == {"fail", "warning"}


def test_the_reference_fails_nothing_and_its_module_is_what_must_be_installed():
    found = answers(REFERENCE)
    assert [status for status, _ in found] == ["warning"] * 3
    assert all("module hw2" in sentence for _, sentence in found)


FACES, DIGITS, DOWNLOAD = "faces/main.py", "digits/infer.py", "hw2_download_ckpt.sh"

FAULTS = [
    ({"hw2_1.sh": None}, "fail", "hw2_1.sh is not in the top folder"),
    ({"hw2_1.sh": None, "HW2_1.SH": CLEAN["hw2_1.sh"]}, "fail", "rename it to hw2_1.sh"),
    ({DOWNLOAD: None, "hw2_download.sh": "gdown x"}, "fail", "rename it to hw2_download_ckpt.sh"),
    ({"hw2_1.sh": CLEAN["hw2_1.sh"].replace("\n", "\r\n")}, "fail", "Windows line ends"),
    ({"hw2_1.sh": "\ufeff" + CLEAN["hw2_1.sh"]}, "fail", "byte order mark"),
    ({"hw2_1.sh": "#!/bin/bash\n\n# TODO"}, "fail", "is the template, unchanged"),
    (
        {"w.pt": "version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n"},
        "fail",
        "w.pt is a pointer of Git",
    ),
    ({"hw2_1.sh": "python3 gone.py $1", DOWNLOAD: None}, "fail", "hw2_1.sh:1 starts gone.py, which is not here"),
    ({"hw2_1.sh": "python3 gone.py $1"}, "warning", "does hw2_download_ckpt.sh fetch it?"),
    ({"hw2_1.sh": "python3 digits/infer.py"}, "fail", "hw2_1.sh never uses $1 (the output folder)"),
    ({"hw2_2.sh": "python3 faces/main.py x $2 $3 $10"}, "fail", "hw2_2.sh never uses $1 (noise)"),
    ({"hw2_2.sh": "python3 faces/main.py $1 $2"}, "warning", "hw2_2.sh never uses $3 (UNet.pt)"),
    ({"hw2_1.sh": "python3 digits/infer.py $1 --c /home/me/a.pt"}, "fail", "hw2_1.sh:1 has a path of your own"),
    ({"hw2_1.sh": "python3 digits/infer.py $1 hw2_data/digits"}, "fail", "hw2_1.sh:1 names hw2_data"),
    ({"hw2_1.sh": CLEAN["hw2_1.sh"] + "pip install einops"}, "warning", "hw2_1.sh:3 downloads"),
    ({"hw2_1.sh": "CUDA_VISIBLE_DEVICES=1 python3 digits/infer.py $1"}, "fail", "CUDA_VISIBLE_DEVICES=1"),
    ({"hw2_1.sh": "CUDA_VISIBLE_DEVICES=0 python3 digits/infer.py $1"}, "warning", "CUDA_VISIBLE_DEVICES"),
    ({"hw2_1.sh": "python3 digits/infer.py $1 --device cuda:2"}, "fail", "asks for cuda:2"),
]

CODE_FAULTS = [
    (DIGITS, "torch.load('/content/drive/MyDrive/a.pt')", "warning", "has a path of your own machine (/content/"),
    (DIGITS, r"torch.load('C:\\a\\b.pt')", "warning", "has a path of your own machine (C:"),
    (DIGITS, "p.add_argument('--c', default='/home/me/a.pt')", "warning", "It is a default"),
    (FACES, "open('./hw2_data/face/noise')", "warning", "has a path of the data"),
    (DIGITS, "net.to('cuda:1')", "fail", "asks for another GPU"),
    (DIGITS, "net.cuda(1)", "fail", "asks for another GPU"),
    (DIGITS, "torch.device('cuda', 2)", "fail", "asks for another GPU"),
    (DIGITS, "p.add_argument('--d', default='cuda:1')", "warning", "has cuda:1 as default"),
    (DIGITS, "os.environ['CUDA_VISIBLE_DEVICES'] = '1'", "fail", "CUDA_VISIBLE_DEVICES=1"),
    (DIGITS, "import diffusers", "fail", "The homework does not allow diffusers"),
    (DIGITS, "import wandb", "fail", "Only training needs it"),
    (DIGITS, "import lpips", "fail", "do not have lpips"),
    (DIGITS, "from my_utils import x", "fail", "imports my_utils, which no package of the course has"),
    (DIGITS, "import ldm.util", "warning", "stable-diffusion folder"),
    (DIGITS, "from torch.utils.tensorboard import SummaryWriter", "warning", "which only training needs"),
    (FACES, "[open(f'n/{i:02d}.pt') for i in range(10)]", "warning", "assumes ten files"),
    (FACES, "for i in range(0, 10): open('%02d.pt' % i)", "warning", "assumes ten files"),
    (FACES, "for i in range(10): open(f'{o}/{i:02d}.png')", "warning", "assumes ten files"),
    (FACES, "open('noise/00.pt')", "warning", "names 00.pt"),
    (FACES, "T.from_pretrained('laion/other')", "warning", "loads laion/other"),
    (FACES, "gdown.download('x', 'y')", "warning", "may download (gdown.download)"),
    (FACES, "def f(:", "fail", "is not valid Python"),
]

LINKS = [
    ("gdown https://drive.google.com/drive/folders/1abc", "fail", "link of a folder"),
    ("gdown https://drive.google.com/drive/u/0/folders/1abc", "fail", "link of a folder"),
    ("gdown https://drive.google.com/file/d/1abc/view?usp=sharing", "fail", "Add --fuzzy"),
    ("wget https://drive.google.com/file/d/1abc/view", "fail", "Use gdown FILE_ID"),
    ("wget 'https://docs.google.com/uc?export=download&id=1abc'", "warning", "above 100 MB"),
    ("gdown https://docs.google.com/document/d/1abc", "fail", "link of a document"),
    ("wget https://ntu-my.sharepoint.com/:u:/g/x", "fail", "OneDrive"),
    ("wget https://1drv.ms/u/s!x", "fail", "OneDrive"),
    ("wget 'https://www.dropbox.com/s/x/a.pt?dl=0'", "fail", "dl=1"),
    ("gdown drive.google.com/uc?id=1abc", "fail", "without https://"),
    ("wget https://huggingface.co/me/m/blob/main/a.pt", "fail", "/resolve/"),
]

GOOD_LINKS = [
    "gdown --folder https://drive.google.com/drive/folders/1abc",
    "gdown --fuzzy https://drive.google.com/file/d/1abc/view?usp=sharing",
    "gdown 'https://drive.google.com/uc?id=1abc'",
    "wget 'https://www.dropbox.com/scl/fi/x/a.pt?rlkey=y&dl=1'",
    "wget https://github.com/me/m/releases/download/v1/a.pt",
    "wget https://huggingface.co/me/m/resolve/main/a.pt",
]


@pytest.mark.parametrize(("changes", "status", "sentence"), FAULTS)
def test_each_fault_of_a_script_or_file_is_named(told, changes, status, sentence):
    found = told(changes)
    assert any(said == status and sentence in text for said, text in found), found


@pytest.mark.parametrize(("path", "line", "status", "sentence"), CODE_FAULTS)
def test_each_fault_of_the_code_is_named_with_file_and_line(told, path, line, status, sentence):
    found = told({path: CLEAN[path] + line + "\n"})
    where = f"{path}:{CLEAN[path].count(chr(10)) + 1}"
    assert [said for said, text in found if sentence in text and where in text] == [status], found
    assert len(found) == 1


@pytest.mark.parametrize(("line", "status", "sentence"), LINKS)
def test_links_that_cannot_be_fetched_are_named(told, line, status, sentence):
    ((said, text),) = told({DOWNLOAD: f"#!/bin/bash\n{line}\n"})
    assert said == status
    assert sentence in text
    assert text.startswith("hw2_download_ckpt.sh:2 ")


@pytest.mark.parametrize("line", GOOD_LINKS)
def test_links_that_can_be_fetched_are_not_named(told, line):
    assert told({DOWNLOAD: line}) == []


def test_ten_names_in_the_digits_code_are_no_noises(told):
    assert told({DIGITS: CLEAN[DIGITS] + "[f'{i}.pt' for i in range(10)]\n"}) == []


def test_own_training_code_imported_at_inference_is_named(told):
    changes = {"digits/infer.py": CLEAN[DIGITS] + "from train import Net\n", "digits/train.py": "class Net: pass\n"}
    assert told(changes) == [
        ("warning", f"{DIGITS}:8 imports train, your training code: it runs before each inference.")
    ]


def test_a_script_that_makes_no_folder_is_named(told):
    ((status, sentence),) = told({FACES: "import sys\n"})
    assert status == "warning"
    assert "hw2_2.sh makes no folder" in sentence


def test_a_script_that_makes_the_folder_itself_is_not_named(told):
    assert told({FACES: "import sys\n", "hw2_2.sh": 'mkdir -p "$2"\npython3 faces/main.py "$@"\n'}) == []


def test_only_the_chosen_problems_must_be_there(told):
    assert told({"hw2_1.sh": None, "hw2_3.sh": None}, problems=(2,)) == []


@pytest.mark.parametrize("ignored", ["*.pth", "checkpoints/", "/checkpoints", "big.pth", "checkpoints/big.pth"])
def test_a_large_file_fails_unless_git_ignores_it(told, tmp_path, ignored):
    told()
    big = tmp_path / "handin" / "checkpoints" / "big.pth"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(101 * 2**20)
    ((status, sentence),) = told()
    assert status == "fail"
    assert "checkpoints/big.pth has 101 MiB" in sentence
    assert told({".gitignore": f"# weights\n{ignored}\n"}) == []


def test_links_out_of_the_folder_fail_and_are_not_followed(told, tmp_path):
    told()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "deep.py").write_text("import no_such_secret_module\n")
    (tmp_path / "handin" / "out").symlink_to(secret)
    (tmp_path / "handin" / "digits" / "up").symlink_to("../../secret/deep.py")
    (tmp_path / "handin" / "faces" / "inside").symlink_to("main.py")
    found = told({"hw2_1.sh": 'python3 out/deep.py "$1"\n'})
    assert sorted(text.split(" is a link")[0] for status, text in found if "is a link" in text) == ["digits/up", "out"]
    assert "no_such_secret_module" not in str(found)


def test_the_answers_of_hosts_are_told(told):
    line = "gdown https://drive.google.com/uc?id=1" + "a" * 32
    asked = []

    def reply(status, url=""):
        def ask(links):
            asked.extend(links)
            return [Page(status, url or link, "") for link in links]

        return told({DOWNLOAD: line}, ask=ask)

    assert reply(200) == []
    assert asked == ["https://drive.google.com/uc?id=1" + "a" * 32]
    assert [status for status, _ in reply(404)] == ["fail"]
    assert "login" in reply(200, "https://accounts.google.com/v3/signin")[0][1]
    assert [status for status, _ in reply(0)] == ["warning"]
    assert "answers 403" in reply(403)[0][1]


def test_many_findings_of_a_kind_are_counted(told):
    found = told({DIGITS: CLEAN[DIGITS] + "net.cuda(1)\n" * (MAX_SHOWN + 7)})
    assert len(found) == MAX_SHOWN + 1
    assert ("fail", "7 more of the same kind (gpu).") in found


def test_a_folder_that_is_not_there_is_an_error_of_the_call(tmp_path):
    with pytest.raises(GradingError, match="is not a folder"):
        answers(tmp_path / "gone")


def test_hostile_folders_neither_hang_nor_print_control_characters(told, tmp_path):
    told()
    folder = tmp_path / "handin"
    (folder / "hw2_1.sh").write_text("python3 " + "a" * 900_000 + "\npython3 digits/infer.py $1\n")
    (folder / "digits" / "net.py").write_bytes(b"x = " + b"-" * 500_000 + b"1\n")
    with (folder / "digits" / "vast.py").open("wb") as file:
        file.truncate(50 * 2**20)
    (folder / "digits" / "deep.py").write_text("(" * 900_000)
    (folder / "digits" / "infer.py").write_text(
        "import net, vast, deep\nx = 'cuda:1 \\x1b[31m'\nopen('/home/\\x1b]0;x')\n"
    )
    Path(os.fsdecode(os.fsencode(folder) + b"/\xa4\xe9\x1b[31m.pt")).symlink_to("/etc/passwd")
    (folder / "pipe.py").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe.py")
    os.mkfifo(folder / "hw2_3.sh.fifo")
    below = folder
    for _ in range(300):
        below /= "d"
        below.mkdir()
    (folder / "loop").symlink_to("loop")
    began = time.monotonic()
    found = answers(folder)
    assert time.monotonic() - began < 60
    assert all(text.isprintable() for _, text in found)
    assert any("cuda:0" in text for _, text in found)


def test_the_command_fails_for_a_fault_and_passes_without(told, tmp_path):
    told()
    folder = tmp_path / "handin"
    report = tmp_path / "report.json"
    good = grade_here("check", folder)
    assert (good.returncode, good.stdout.splitlines()[-1][:21]) == (0, "0 to fix, 0 warnings,")
    (folder / "hw2_2.sh").unlink()
    bad = grade_here("check", folder, "--json", report)
    assert bad.returncode == 1
    assert "hw2_2.sh is not in the top folder" in bad.stdout
    assert '"status": "fail"' in report.read_text()
    assert grade_here("check", folder, "--problems", "1").returncode == 0
    assert grade_here("check", folder / "gone").returncode == 2


def test_run_scores_the_scripts_on_the_embedded_data(told, tmp_path):
    """The script copies the right faces; drawing them takes ten seconds."""
    faces = {f"truth/{path.name}": path.read_bytes() for path in (ROOT / "fixtures/hw2_data/face/GT").glob("*.png")}
    told({"hw2_2.sh": 'mkdir -p "$2"; ls "$1" "$3"; cp truth/* "$2"\n', DOWNLOAD: None, **faces})
    handin, report = tmp_path / "handin", tmp_path / "a"
    ended = grade_here("check", handin, "--run", "--trust", "--problems", "2", "--json", report)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Problem 2, public noises" in ended.stdout
    found = json.loads(report.read_text())
    assert (found["handin"]["findings"][0]["status"], found["run"]["points"]) == ("pass", 10)


@needs_sandbox
def test_a_script_that_scores_nothing_in_the_sandbox_fails(told, tmp_path):
    told({"hw2_2.sh": 'mkdir -p "$2"; ls /home "$1" "$3"\n', DOWNLOAD: None})
    ended = grade_here("check", tmp_path / "handin", "--run", "--problems", "2")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 to fix" not in ended.stdout
    assert "00.png is missing" in ended.stdout


def test_run_without_data_is_an_error_of_the_call(tmp_path, told):
    told()
    ended = grade_here("check", tmp_path / "handin", "--run", "--data", tmp_path / "gone")
    assert ended.returncode == 2
    assert "--data" in ended.stderr


def test_a_folder_of_any_depth_is_checked():
    with deep_place() as place:
        nest(place, 1500)
        nest(place, 30, "n" * 255, leaf="link.py")
        report = examine_handin(place, chosen_homework("fall2024"))
        assert any(each.sentence.startswith("hw2_1.sh is not in the top folder.") for each in report.findings)
