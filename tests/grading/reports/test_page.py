import re
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.results import Card, Frame
from grading.homeworks.fall2024 import FALL2024
from grading.reports.class_page import class_page
from grading.reports.submission_page import environment, student_page, submission_page
from grading.reports.visibility import NO_POINTS, public_part
from tests.grading.browser import PHONE, look_at, needs_browser
from tests.grading.reported import (
    HOSTILE,
    HOSTILE_NAME,
    WITHOUT_POINTS,
    hostile_result,
    pictures_of,
    submission_result,
    without_private,
)

TAGS = {
    "a", "b", "bdi", "body", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "footer", "h1", "h2", "h3",
    "head", "header", "html", "i", "img", "li", "line", "main", "meta", "nav", "p", "pre", "rect", "section", "span",
    "strong", "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul",
}  # fmt: skip


@pytest.fixture(scope="module")
def pages():
    usual, hostile = submission_result(), hostile_result()
    unscored = submission_result(homework=WITHOUT_POINTS)
    pictures = pictures_of(usual)
    return {
        "staff": submission_page(usual, pictures, FALL2024),
        "public": student_page(usual, pictures, FALL2024),
        "hostile": submission_page(hostile, pictures_of(hostile), FALL2024),
        "bare": submission_page(replace(usual, lines=[], stages=[], results=[], record={}), {}, FALL2024),
        "no points": submission_page(unscored, pictures_of(unscored), WITHOUT_POINTS),
        "class without points": class_page([unscored] * 2, WITHOUT_POINTS),
        "class": class_page([usual, hostile, *(submission_result(f"r{i}") for i in range(6))], FALL2024),
        "no class": class_page([], FALL2024),
    }


@pytest.fixture(scope="module")
def seen(pages, tmp_path_factory):
    return look_at(tmp_path_factory.mktemp("pages"), pages)


@needs_browser
def test_whatever_strangers_wrote_is_text(seen):
    for name, page in seen[0].items():
        assert set(page.tags) <= TAGS, name
        assert page.handlers == 0, name
    spelled = r"""<script>document.title='stolen'</script><img src=/stolen.png onerror=alert(1)>"'`&amp;</td>"""
    for part in (
        spelled,
        "{{ 7*7 }} {% raw %}",
        r"\n\r\t\x00\x1b[31mred\x1b[0m\x08\udcff\ud800\ufffe",
        r"\u202egnp.exe",
    ):
        assert part in seen[0]["hostile"].text
    assert r"<script>document.title='stolen'<script>" in seen[0]["class"].text


@needs_browser
def test_titles_are_those_of_the_pages(seen):
    assert seen[0]["staff"].title == "r12345678: could not check – DLCV Fall 2024, homework 2"
    assert seen[0]["public"].title == "r12345678: fail – DLCV Fall 2024, homework 2"
    assert seen[0]["hostile"].title.startswith("=<script>document.title")
    assert seen[0]["hostile"].title.endswith("– DLCV Fall 2024, homework 2")
    assert seen[0]["class"].title == "Class of 8, 8 not fully checked – DLCV Fall 2024, homework 2"
    assert seen[0]["no class"].title == "Class – DLCV Fall 2024, homework 2"
    assert seen[0]["no points"].title == "r12345678: could not check – Homework without points"


@needs_browser
def test_pages_ask_nobody_for_anything(seen, pages):
    files = {"/wrapper.html", "/favicon.ico", *(f"/{name.replace(' ', '%20')}.html" for name in pages)}
    assert set(seen[1]) <= files
    assert len(set(seen[1]) & files) >= len(pages)


@needs_browser
def test_no_page_scrolls_sideways_on_a_phone(seen):
    for name, page in seen[0].items():
        assert page.width == PHONE, (name, page.wide)


@needs_browser
def test_no_word_of_a_tables_heading_is_broken_on_a_phone(seen):
    for name, page in seen[0].items():
        assert page.broken == [], name


@needs_browser
def test_every_picture_is_there_and_told_in_words(seen):
    counts = {name: len(page.images) for name, page in seen[0].items()}
    staff = 2 + 2 * 2 * 3 + 10
    assert counts == {"staff": staff, "public": staff - 6, "hostile": 2 + 3 + 5, "no points": staff} | dict.fromkeys(
        ("bare", "class", "no class", "class without points"), 0
    )
    for page in seen[0].values():
        for start, width, told in page.images:
            assert start == "data:image/jpeg;base64"
            assert width > 0
            assert len(told) > 10


@needs_browser
def test_links_of_the_class_page_lead_to_submissions_and_its_own_sections(seen, pages):
    links = seen[0]["class"].links
    assert "students/r12345678/report.html" in links
    assert any(link.startswith("students/%3D%3Cscript%3E") and "%FF" in link for link in links)
    within = {link for link in links if link.startswith("#")}
    assert all(re.fullmatch(r"students/[A-Za-z0-9%._~-]+/report\.html", link) for link in links if link not in within)
    assert {"#submissions", "#rates", "#unchecked", "#warnings"} <= within
    assert all(f'id="{link[1:]}"' in pages["class"] for link in within)


@needs_browser
def test_links_of_a_submissions_page_lead_to_each_of_its_sections(seen, pages):
    for name in ("staff", "public", "hostile", "no points", "bare"):
        links = seen[0][name].links
        assert links == [f"#{section}" for section in re.findall(r'<h2 id="(\w+)"', pages[name])], name
        assert "#score" in links


@needs_browser
def test_the_security_policy_stops_what_would_slip_through_and_a_page_too_wide_is_seen(pages, tmp_path):
    slipped = (
        "<script>document.title = 'stolen'</script><img src='/stolen.png'><link rel=stylesheet href='/stolen.css'>"
        "<iframe src='/stolen.html'></iframe><img src=x: onerror=\"document.title='stolen'\">"
    )
    page = pages["bare"].replace("</body>", f"{slipped}</body>")
    wide = pages["bare"].replace("</body>", "<div style='width:361px'>too wide</div></body>")
    opened = re.sub(r"<meta http-equiv=[^>]+>", "", page)
    found, asked = look_at(tmp_path, {"guarded": page, "open": opened, "wide": wide})
    assert found["open"].title == "stolen"  # so this test can fail
    assert found["guarded"].title == "r12345678: could not check – DLCV Fall 2024, homework 2"
    assert asked.count("/stolen.png") == asked.count("/stolen.css") == asked.count("/stolen.html") == 1
    assert found["wide"].width > PHONE


def test_a_page_brings_all_it_needs(pages):
    for page in pages.values():
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
        assert not re.search(r"<script|<link|<iframe|@import|url\(|<form|<base", page.replace("&lt;", ""))
        page.encode()  # as a file: no half surrogate pair


def test_the_public_page_tells_nothing_private(pages):
    for told in ("PRIVATE", "676", "private noises", "12 of 500", "for staff, with", "-11.1", "Traceback of"):
        assert told in pages["staff"], told
        assert told not in re.sub(r'"data:[^"]+"', "", pages["public"]), told
    assert pages["public"].count("data:image") == pages["staff"].count("data:image") - 6


def test_the_public_part_has_its_own_totals_and_status():
    public = public_part(submission_result())
    assert (public.points, public.max_points, public.unchecked) == (37.0, 50.0, 0.0)
    assert public.status == "fail"
    assert [line.name for line in public.lines][-1] == "report 1"
    assert [stage.stage for stage in public.stages if "private" in stage.stage] == []
    assert public.record == {"versions": {"python": "3.11.7", "torch": "2.10.0"}}
    assert public.warnings == []


def test_a_deduction_stays_in_the_public_part_if_nothing_is_private():
    assert public_part(without_private(submission_result())).lines[-1].name == "late"


def test_every_line_stage_check_and_warning_is_on_the_page(pages):
    result = submission_result()
    checks = [*(check for each in result.results for check in each.checks), *result.warnings]
    for said in (*result.lines, *result.stages, *checks):
        assert said.message in pages["staff"]
    assert "MemoryError" in pages["staff"]
    assert "line 10\n" not in pages["staff"]  # only the tail of a log
    assert "2023-11-14 22:13:20 UTC" in pages["staff"]


def test_what_could_not_be_checked_is_told_and_no_zero(pages):
    assert "10 of 70 points could not be checked (Problem 3, private prompts)" in pages["staff"]
    row = re.search(r"3, private prompts</bdi>.*?</tr>", pages["staff"], re.DOTALL)[0]
    assert re.search(r'<td class="right">\? <span class="soft">/ 10', row)
    assert "could not be checked (" not in pages["public"]


def test_private_lines_parts_and_stages_are_marked_as_such(pages):
    badge = ' <span class="badge">private</span>'
    for named in ("Problem 2, private noises</bdi>", "faces, private noises</bdi>", "<bdi>hw2_2.sh private</bdi>"):
        assert named + badge in pages["staff"]
    for named in ("Problem 2, public noises</bdi>", "faces, public noises</bdi>", "<bdi>hw2_2.sh public</bdi>"):
        assert named in pages["staff"]
        assert named + badge not in pages["staff"]


def test_private_parts_are_announced_where_there_are_any(pages):
    without = without_private(submission_result())
    for page, told in (
        (pages["staff"], True),
        (class_page([submission_result()], FALL2024), True),
        (submission_page(without, {}, FALL2024), False),
        (class_page([without], FALL2024), False),
    ):
        assert "for staff" in page
        assert ("for staff, with private parts" in page) == told


def test_a_low_digit_stands_out(pages):
    assert re.search(r'<b><span class="hidden">row <bdi>8</bdi>: </span><bdi>70%</bdi></b>', pages["staff"])
    assert pages["staff"].count('<b><span class="hidden">row') == 1


def test_the_selected_images_stand_best_first(pages):
    captions = re.findall(r"<figcaption><bdi>(\d\d\.\d) · (\d\d\.\d)</bdi>", pages["staff"])
    assert captions[:5] == [(f"{score}.0", "36.0") for score in (82, 81, 80, 79, 78)]


def test_the_gpu_memory_of_a_run_is_on_the_page_if_it_was_measured():
    result = submission_result()
    used = replace(result, stages=[replace(stage, gpu_bytes=7 * 2**29) for stage in result.stages])
    assert "on the GPU" not in submission_page(result, {}, FALL2024)
    assert submission_page(used, {}, FALL2024).count("3.5 GiB on the GPU") == len(result.stages)


def test_the_cpu_time_of_a_run_is_on_the_page_if_it_was_measured():
    result = submission_result()
    used = replace(result, stages=[replace(stage, cpu_seconds=0.0) for stage in result.stages])
    assert "CPU time" not in submission_page(result, {}, FALL2024)
    assert submission_page(used, {}, FALL2024).count("0.0 s of CPU time") == len(result.stages)


def test_a_page_without_pictures_is_still_one():
    page = submission_page(submission_result(), {}, FALL2024)
    assert "<img" not in page
    assert "Problem 2: faces" in page


def test_tracebacks_are_for_staff_alone(pages):
    for text in ("OSError: PRIVATE disk is full", "ValueError: PRIVATE value"):
        assert re.search(rf"<details><summary>Traceback[^<]*</summary><pre>[^<]*{text}", pages["staff"])
    assert "Traceback of the grader" not in pages["public"]


def test_logs_of_failed_runs_are_open_and_others_closed(pages):
    for message, opened in (("hw2_2.sh was stopped", True), ("hw2_1.sh ran to its end", False)):
        row = re.search(rf'<span class="said"><bdi>{message}[^<]*</bdi></span>\s*<details( open)?>', pages["staff"])
        assert bool(row[1]) == opened


def test_without_points_pages_say_so_and_show_scores(pages):
    for name in ("no points", "class without points"):
        assert NO_POINTS in pages[name]
        assert "/ 0<" not in pages[name]
        assert "of 0 points" not in pages[name]
        assert "Its official baselines were never published." in pages[name]
    assert '<strong>3</strong> <span class="soft">of 7 passed</span>' in pages["no points"]
    assert ">Total<" not in pages["no points"]
    assert "The mean accuracy is 94.00%" in pages["no points"]
    assert NO_POINTS not in pages["staff"]


def test_every_number_of_any_problem_is_on_its_page(pages):
    for shown in ("at least 90.00%", "88.17% to 93.21%", "53.82 dB", "below 20.0000", "diversity"):
        assert shown in pages["staff"]
    assert re.search(r'<span class="fail">34.50</span> <span class="soft">of 35.00</span>', pages["staff"])
    assert "Judged by <bdi>clip</bdi> (embedded, cdcdcdcd)" in pages["staff"]


def test_cards_of_any_problem_are_shown():
    frames = (Frame("a mask", (("mask.png",),), caption="its mask"), Frame("a source", (("s.png",),), "expected"))
    cards = [Card("A card", "a note", "fail", frames, "a footnote"), Card("An empty card")]
    result = replace(submission_result().results[1], title="Problem 9: masks", cards=cards, summary="A summary.")
    result = replace(submission_result(), results=[result])
    page = submission_page(result, pictures_of(result), FALL2024)
    for text in ("Problem 9: masks", "A card", "a note", "its mask", "a footnote", "An empty card", "A summary."):
        assert text in page
    assert re.search(r'A card</bdi></b> <span class="badge fail">', page)
    assert re.findall(r'alt="(a \w+\.)"', page) == ["a mask.", "a source."]


def test_templates_escape_whatever_they_print():
    template = environment().from_string("<p title='{{ text }}'>{{ text }}</p>")
    assert template.render(text="'<b>\x1b\n").count("&#39;&lt;b&gt;\\x1b\\n") == 2


def test_templates_trust_no_text():
    for path in Path(environment().loader._template_root).glob("*.html"):
        assert not re.search(r"\|\s*(safe|e\b|escape)|autoescape|Markup", path.read_text()), path.name


def test_what_the_tests_call_hostile_is():
    for character in "<>\"'&\n\r\x1b\x00\udcff\u202e":
        assert character in HOSTILE
    assert "/" not in HOSTILE_NAME
