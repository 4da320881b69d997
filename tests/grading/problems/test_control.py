"""IoU * CLIP of Problem 3 in Fall 2025, line by line, and what happens to lines that cannot be scored."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grading.core.errors import GradingError
from grading.core.results import Judge, Part
from grading.files.images import ImageRefused, read_image
from grading.homeworks.fall2025 import CONTROL, FALL2025
from grading.judges.clip import load_clip
from grading.judges.sam import load_sam
from grading.points.explain import explain
from grading.points.lines import score_lines
from grading.points.staff import StaffEntry
from grading.problems.control import Line, grade_control, iou, read_lines
from grading.problems.problem import Run
from tests.models.tiny_clip import save_tiny_clip
from tests.models.tiny_sam import save_tiny_sam

SIZE = 20


class RedMask:
    """What is red is in the middle."""

    identity = Judge("sam", "custom", "red", "0" * 64)

    def mask(self, image):
        return image[:, :, 0] > 127


class GreenClip:
    """The cosine of a picture and a sentence: the picture's green / 255 if the sentence says so, else its negative."""

    identity = Judge("clip", "custom", "green", "0" * 64)
    logit_scale = 100.0

    def image_features(self, images):
        greens = np.array([image[0, 0, 1] / 255 for image in images], np.float32)
        return np.stack([greens, np.sqrt(1 - greens**2)], 1) if len(greens) else np.empty((0, 2), np.float32)

    def text_features(self, sentences):
        return np.stack([np.array([1 if "green" in sentence else -1, 0], np.float32) for sentence in sentences])


def picture(red_columns, green=0, size=(SIZE, SIZE)):
    """Its first columns are red, so the IoU of two pictures is that of two intervals."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:, :red_columns, 0] = 255
    image[:, :, 1] = green
    return image


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


class World:
    """The data of a part in the homework's layout, and an output folder."""

    def __init__(self, root, count=12):
        self.data, self.output = root / "hw2_data", root / "out"
        self.prompts = self.data / "fill50k" / "testing" / "prompt.json"
        self.sources = self.data / "fill50k" / "testing" / "source"
        self.lines = [{"source": f"{i}.png", "target": f"{i}.png", "prompt": f"a green {i}"} for i in range(count)]
        for i in range(count):
            save(picture(10), self.sources / f"{i}.png")
            save(picture(i + 1, green=20 * i), self.output / f"{i}.png")
        self.write()

    def write(self):
        write_lines(self.prompts, self.lines)

    def grade(self, best=10, read=read_image):
        return grade_control(
            self.output, read_lines(self.prompts), self.sources, GreenClip(), RedMask(), best, read=read
        )


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def messages(result, status="fail"):
    return [check.message for check in result.checks if check.status == status]


# --- the numbers


def mask(*rows):
    return np.array([[cell == "x" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (mask("xx.", "..."), mask(".xx", "..."), 1 / 3),
        (mask("xxx", "xxx"), mask("xxx", "xxx"), 1.0),
        (mask("x..", "..."), mask("..x", "..."), 0.0),
        (mask("...", "..."), mask("...", "..."), 1.0),
        (mask("...", "..."), mask("x..", "..."), 0.0),
        (mask("x..", "..."), mask("...", "..."), 0.0),
        (mask("xxx", "x.."), mask("xx.", "xx."), 3 / 5),
    ],
)
def test_iou_by_hand(one, other, expected):
    assert iou(one, other) == expected


def by_hand(i):
    """(IoU, CLIP) of line i of the world: i + 1 of 10 red columns, or 10 of i + 1; cosine 20 i / 255."""
    return min(i + 1, 10) / max(i + 1, 10), (20 * i / 255 + 1) / 2


def test_each_line_has_iou_times_clip(world):
    result = world.grade()
    for i, line in enumerate(result.lines):
        expected_iou, expected_clip = by_hand(i)
        assert line.iou == pytest.approx(expected_iou)
        assert line.clip == pytest.approx(expected_clip, abs=1e-6)
        assert line.score == pytest.approx(expected_iou * expected_clip, abs=1e-6)
    assert [line.number for line in result.lines] == list(range(1, 13))


def test_the_score_is_the_mean_of_the_ten_best(world):
    scores = [a * b for a, b in map(by_hand, range(12))]
    result = world.grade()
    assert result.score == pytest.approx(np.mean(sorted(scores)[-10:]), abs=1e-6)
    assert result.score != pytest.approx(np.mean(scores), abs=1e-3)
    assert result.best == sorted(range(1, 13), key=lambda number: scores[number - 1])[:1:-1]
    assert result.status == "pass"
    assert messages(result, "pass") == [f"The mean of IoU * CLIP over the best 10 of 12 lines is {result.score:.4f}."]


def test_another_number_of_best_lines_changes_the_score(world):
    assert world.grade(best=1).score == max(line.score for line in world.grade().lines)


def test_fewer_than_ten_lines_are_averaged_and_it_is_said(tmp_path):
    result = World(tmp_path, count=3).grade()
    assert result.score == pytest.approx(np.mean([a * b for a, b in map(by_hand, range(3))]), abs=1e-6)
    assert result.status == "pass"
    (said,) = messages(result, "pass")
    assert said.startswith("The mean of IoU * CLIP over the best 3 of 3 lines (10 are averaged if there are as many)")


def test_a_prompt_that_does_not_fit_lowers_clip_below_a_half(world):
    world.lines[5]["prompt"] = "a red one"
    world.write()
    assert world.grade().lines[5].clip == pytest.approx((1 - 100 / 255) / 2, abs=1e-6)


def test_two_pictures_without_a_mask_agree(world):
    save(picture(0), world.sources / "0.png")
    save(picture(0), world.output / "0.png")
    assert world.grade().lines[0].iou == 1.0


def test_networks_judge_as_they_do_alone(world, tmp_path):
    """Tiny networks in place of SAM2 and CLIP; the prompts decide which text a picture is compared with."""
    rng = np.random.default_rng(0)
    for i, line in enumerate(world.lines):
        line["prompt"] = ["a red dog", "a cat on the beach", "a dog"][i % 3]
        save(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8), world.sources / line["source"])
        save(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8), world.output / line["target"])
    world.write()
    (world.output / "1.png").unlink()
    sam, clip = (load_sam(str(save_tiny_sam(tmp_path / "sam", 1))), load_clip(str(save_tiny_clip(tmp_path / "clip"))))
    result = grade_control(world.output, read_lines(world.prompts), world.sources, clip, sam, 10)
    for asked, line in zip(world.lines, result.lines, strict=True):
        if line.number == 2:
            continue
        image = read_image(world.output, asked["target"])
        one, other = sam.mask(read_image(world.sources, asked["source"])), sam.mask(image)
        assert line.iou == (one & other).sum() / (one | other).sum()
        cosine = float(np.dot(clip.image_features([image])[0], clip.text_features([asked["prompt"]])[0]))
        assert line.clip == pytest.approx((cosine + 1) / 2, abs=1e-6)
    assert [judge.name for judge in result.judges] == ["clip", "sam"]


# --- lines that cannot be scored


def test_a_missing_target_is_said_and_the_rest_scored(world):
    (world.output / "11.png").unlink()
    result = world.grade()
    assert result.status == "fail"
    assert messages(result) == ["Line 12: 11.png is missing."]
    assert result.lines[11].score is None
    assert result.lines[11].failure == "Line 12: 11.png is missing."
    scores = [a * b for a, b in map(by_hand, range(11))]
    assert result.score == pytest.approx(np.mean(sorted(scores)[-10:]), abs=1e-6)


def test_scores_stay_with_their_lines_when_one_between_is_missing(world):
    (world.output / "4.png").unlink()
    for line in world.grade().lines:
        if line.number != 5:
            assert line.clip == pytest.approx(by_hand(line.number - 1)[1], abs=1e-6)


def test_of_many_missing_targets_a_few_are_named_and_the_rest_counted(world):
    for i in range(2, 12):
        (world.output / f"{i}.png").unlink()
    result = world.grade()
    *named, rest = messages(result)
    assert named == [f"Line {i + 1}: {i}.png is missing." for i in range(2, 7)]
    assert rest == "5 more lines could not be scored (7.png, 8.png, 9.png, 10.png, 11.png)."
    assert "the best 2 of 12 lines (10 are averaged" in messages(result, "pass")[0]


def test_an_empty_or_missing_folder_has_no_score(tmp_path):
    world = World(tmp_path, count=2)
    for path in world.output.iterdir():
        path.unlink()
    empty = world.grade()
    assert (empty.score, empty.best, empty.status) == (None, [], "fail")
    assert messages(empty)[-1] == "No line could be scored."
    world.output.rmdir()
    assert "does not exist" in messages(world.grade())[0]
    world.output.write_text("x")
    with pytest.raises(GradingError, match="is a file; expected the folder"):
        world.grade()


def test_another_size_than_the_control_image_fails_its_line(world):
    save(picture(3, size=(SIZE + 1, SIZE)), world.output / "3.png")
    assert messages(world.grade()) == [
        "Line 4: 3.png is 21x20 pixels; expected 20x20, the size of its control image."
    ]  # fmt: skip


def test_hostile_outputs_are_refused(world, tmp_path):
    secret = tmp_path / "secret"
    save(picture(10, green=255), secret / "in" / "0.png")
    for i, line in enumerate(world.lines[:4]):
        line["target"] = f"sub{i}/in/0.png"
    save(picture(10), world.output / "sub0" / "in" / "0.png")
    (world.output / "sub1").symlink_to(secret)
    (world.output / "sub2").mkdir()
    (world.output / "sub2" / "in").symlink_to(secret / "in")
    (world.output / "sub3" / "in").mkdir(parents=True)
    (world.output / "sub3" / "in" / "0.png").symlink_to(secret / "in" / "0.png")
    (world.output / "4.png").unlink()
    os.mkfifo(world.output / "4.png")
    (world.output / "5.png").write_bytes(b"no picture")
    (world.output / "6.png").unlink()
    (world.output / "6.png").symlink_to("6.png")
    world.write()
    result = world.grade()
    assert result.lines[0].score is not None
    assert [line.failure for line in result.lines[1:7]] == [
        "Line 2: sub1/in/0.png is in a folder that is a link; expected the folder itself.",
        "Line 3: sub2/in/0.png is in a folder that is a link; expected the folder itself.",
        "Line 4: sub3/in/0.png is a link; expected the image itself.",
        "Line 5: 4.png is a pipe, socket or device; expected an image.",
        "Line 6: 5.png is not a PNG, JPEG, BMP or GIF image.",
        "Line 7: 6.png is a link; expected the image itself.",
    ]
    assert "The grader ignored 4 unexpected entries: 0.png, 1.png, 2.png, 3.png." in messages(result, "warning")


def test_pictures_are_read_by_the_reader_of_the_run_alone(world):
    read = []

    def reader(folder, name):
        read.append((folder, name))
        raise ImageRefused("was not taken over")

    result = world.grade(read=reader)
    assert read == [(world.output, f"{i}.png") for i in range(12)]
    assert result.score is None
    assert messages(result)[0] == "Line 1: 0.png was not taken over."


def test_a_picture_that_is_its_control_image_is_said(world):
    save(picture(10), world.output / "2.png")
    result = world.grade()
    assert "These pictures are copies of their control images: 2.png." in messages(result, "warning")
    assert result.status == "pass"


# --- staff's files


@pytest.mark.parametrize("key", ["source", "target"])
@pytest.mark.parametrize(
    "path", ["../0.png", "/etc/passwd", "a/../../0.png", "..", ".", "a\0b", "x" * 256 + ".png", "\x1b[31m/../.."]
)
def test_a_path_that_leaves_its_folder_is_refused_in_a_sentence(world, key, path):
    world.lines[7][key] = path
    world.write()
    with pytest.raises(
        GradingError, match=rf"line 8, has the {key} .*, which is not a path below its folder"
    ) as caught:
        world.grade()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 2, is not valid JSON"),
        ("[]", "line 2, has no text under source"),
        ('{"source": "0.png", "target": "0.png"}', "line 2, has no text under prompt"),
        ('{"source": "0.png", "target": 3, "prompt": "x"}', "line 2, has no text under target"),
        ('{"source": "0.png", "target": "0.png", "prompt": " "}', "line 2, has no text under prompt"),
        (r'{"source": "0.png", "target": "\ud800.png", "prompt": "x"}', "line 2, is not valid JSON"),
        ("[" * 100000, "line 2, is not valid JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(world, text, said):
    first, *rest = world.prompts.read_text().splitlines()
    world.prompts.write_text("\n".join([first, text, *rest]))
    with pytest.raises(GradingError, match=said) as caught:
        read_lines(world.prompts)
    assert str(caught.value).isprintable()


def test_empty_lines_are_skipped_but_counted(tmp_path):
    line = '{"source": "a b.png", "target": "sub/c.png", "prompt": "two\u2028lines"}'
    (tmp_path / "prompt.json").write_text(f"\n{line}\r\n\n", encoding="utf-8-sig")
    assert read_lines(tmp_path / "prompt.json") == [Line(2, "a b.png", "sub/c.png", "two\u2028lines")]


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "is empty"), (b"\n\n", "has no lines"), (b"\xff", "is not UTF-8 text")]
)
def test_files_without_lines_are_refused(tmp_path, content, said):
    (tmp_path / "prompt.json").write_bytes(content)
    with pytest.raises(GradingError, match=said):
        read_lines(tmp_path / "prompt.json")


def lose(path):
    path.unlink()


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose, r"cannot be opened \(No such file or directory\); expected a picture"),
        (loop, "is a link to itself; expected a picture"),
        (lambda path: path.write_bytes(b"x"), "is no image; expected a picture"),
    ],
)
def test_a_control_image_that_cannot_be_read_is_never_the_submissions_fault(world, spoil, said):
    spoil(world.sources / "3.png")
    with pytest.raises(GradingError, match=f"the control image .*3.png {said}"):
        world.grade()


def test_staff_may_link_to_their_control_images(world, tmp_path):
    (world.sources / "3.png").rename(tmp_path / "x.png")
    (world.sources / "3.png").symlink_to(tmp_path / "x.png")
    assert world.grade().status == "pass"


# --- the problem


class Images:
    """Reads directly, as where nothing stands between."""

    read_image = staticmethod(read_image)


def scored(world, problem=CONTROL, part=Part.PUBLIC):
    inputs = {each.name: world.data / each.path for each in problem.inputs}
    judges = {"clip": GreenClip(), "sam": RedMask()}
    return problem.score(Run(part, world.output, world.data, world.data, inputs, judges, Images()))


def test_a_run_is_scored_from_the_homeworks_layout(world):
    result = scored(world)
    graded = world.grade()
    assert (result.status, result.title) == ("pass", "Problem 3: control, public lines")
    figure = result.figure("control_score")
    assert (figure.value, figure.leaderboard) == (graded.score, "Control score")
    (outcome,) = result.outcomes
    assert (outcome.key, outcome.title, outcome.passed) == ("", "lines", True)
    assert result.details["lines"][3]["iou"] == graded.lines[3].iou
    assert "over the best 10 of 12 lines" in result.summary


def test_the_table_has_iou_clip_and_product_of_every_line(world):
    (world.output / "2.png").unlink()
    result = scored(world)
    table = {(figure.row, figure.column): figure.value for figure in result.figures if figure.table}
    assert len(table) == 36
    line = world.grade().lines[4]
    assert [table["5 a green 4", column] for column in ("IoU", "CLIP", "product")] == [line.iou, line.clip, line.score]
    assert table["3 a green 2", "product"] is None


def test_the_ten_best_are_shown_beside_their_control_images(world):
    result = scored(world)
    assert [card.title.split(".")[0] for card in result.cards] == [str(number - 1) for number in world.grade().best]
    source, target = result.cards[0].frames
    best = world.grade().best[0] - 1
    assert (source.source, source.images) == ("expected", ((f"fill50k/testing/source/{best}.png",),))
    assert (target.source, target.images) == ("output", ((f"{best}.png",),))
    assert (world.data / source.images[0][0]).is_file()


def test_a_line_of_the_score_says_what_is_missing_and_has_no_points(world):
    (world.output / "2.png").unlink()
    results = [scored(world), CONTROL.unchecked(Part.PRIVATE, replace(scored(world).checks[0], status="error"))]
    public, private = score_lines(FALL2025, results, StaffEntry())
    assert (public.name, public.title) == ("3 public", "Problem 3, public lines")
    assert (public.points, public.max_points, public.status) == (0, 0, "fail")
    assert "Line 3: 2.png is missing." in public.message
    assert (private.name, private.points, private.status) == ("3 private", None, "error")


def test_points_can_be_given_to_it(world):
    homework = FALL2025.with_points({"problem_3": {"public": 20.0}})
    (line,) = score_lines(homework, [scored(world)], StaffEntry())
    assert (line.points, line.max_points) == (20.0, 20.0)
    assert "20 points if" in explain("3 public", homework)


def test_arguments_are_in_the_official_order_and_name_its_inputs():
    names = {f"/data/{each.name}" for each in CONTROL.inputs}
    assert CONTROL.arguments == ("/data/prompt.json", "/data/source", "/output", "/data/model.ckpt")
    assert {argument for argument in CONTROL.arguments if argument != "/output"} == names
    assert Path(CONTROL.script).suffix == ".sh"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("3 public", ["every line", "as large as"]),
        ("control_score", ["10 lines", "grade_hw2_3.py"]),
        ("iou", ["intersection / union", "one positive point in the middle", "sam2.1-hiera-large"]),
        ("CLIP", ["(cosine of their CLIP features + 1) / 2", "clip-vit-base-patch32"]),
        ("product", ["IoU * CLIP"]),
        ("hw2_3.sh private", ["/data/prompt.json /data/source /output /data/model.ckpt"]),
    ],
)
def test_explanations_state_the_rule(name, facts):
    for fact in facts:
        assert fact in explain(name, FALL2025)
