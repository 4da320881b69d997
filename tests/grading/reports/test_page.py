import re
from dataclasses import replace
from pathlib import Path

import pytest

from grading.reports.class_page import class_page
from grading.reports.pictures import Pictures
from grading.reports.submission_page import environment, submission_page
from grading.reports.visibility import public_part
from tests.grading.browser import PHONE, look_at, needs_browser
from tests.grading.reported import HOSTILE, HOSTILE_NAME, hostile_result, pictures_of, submission_result

TAGS = {
    "a", "b", "bdi", "body", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "footer", "h1", "h2", "h3",
    "head", "header", "html", "i", "img", "li", "line", "meta", "p", "pre", "rect", "section", "span", "strong",
    "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul",
}  # fmt: skip


@pytest.fixture(scope="module")
def pages():
    usual, hostile = submission_result(), hostile_result()
    pictures = pictures_of(usual)
    return {
        "staff": submission_page(usual, pictures),
        "public": submission_page(usual, pictures, public_only=True),
        "hostile": submission_page(hostile, pictures_of(hostile)),
        "bare": submission_page(replace(usual, lines=[], stages=[], digits=None, faces={}, concepts={}, record={})),
        "class": class_page([usual, hostile, *(submission_result(f"r{i}") for i in range(6))]),
        "no class": class_page([]),
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
    assert seen[0]["staff"].title == "r12345678 – DLCV HW2"
    assert seen[0]["hostile"].title.startswith("=<script>document.title")
    assert seen[0]["hostile"].title.endswith("– DLCV HW2")
    assert seen[0]["class"].title == "Class – DLCV HW2"


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
def test_every_picture_is_there_and_told_in_words(seen):
    counts = {name: len(page.images) for name, page in seen[0].items()}
    assert counts == {"staff": 2 + 2 * 2 * 3 + 10, "public": 2 + 2 * 3 + 10, "hostile": 2 + 3 + 5} | dict.fromkeys(
        ("bare", "class", "no class"), 0
    )
    for page in seen[0].values():
        for start, width, told in page.images:
            assert start == "data:image/jpeg;base64"
            assert width > 0
            assert len(told) > 10


@needs_browser
def test_links_of_the_class_page_lead_to_submissions_and_nowhere_else(seen):
    links = seen[0]["class"].links
    assert "students/r12345678/report.html" in links
    assert any(link.startswith("students/%3D%3Cscript%3E") and "%FF" in link for link in links)
    assert all(re.fullmatch(r"students/[A-Za-z0-9%._~-]+/report\.html", link) for link in links)
    assert all(not page.links for name, page in seen[0].items() if name != "class")


@needs_browser
def test_the_security_policy_stops_what_would_slip_through(pages, tmp_path):
    slipped = (
        "<script>document.title = 'stolen'</script><img src='/stolen.png'><link rel=stylesheet href='/stolen.css'>"
        "<iframe src='/stolen.html'></iframe><img src=x: onerror=\"document.title='stolen'\">"
    )
    page = pages["bare"].replace("</body>", f"{slipped}</body>")
    found, asked = look_at(tmp_path, {"guarded": page, "open": re.sub(r"<meta http-equiv=[^>]+>", "", page)})
    assert found["open"].title == "stolen"  # so this test can fail
    assert found["guarded"].title == "r12345678 – DLCV HW2"
    assert asked.count("/stolen.png") == asked.count("/stolen.css") == asked.count("/stolen.html") == 1


@needs_browser
def test_the_browser_test_sees_a_page_that_is_too_wide(pages, tmp_path):
    wide = pages["bare"].replace("</body>", "<div style='width:361px'>too wide</div></body>")
    assert look_at(tmp_path, {"wide": wide})[0]["wide"].width > PHONE


def test_a_page_brings_all_it_needs(pages):
    for page in pages.values():
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
        assert not re.search(r"<script|<link|<iframe|@import|url\(|<form|<base", page.replace("&lt;", ""))
        page.encode()  # as a file: no half surrogate pair


def test_the_public_page_tells_nothing_private(pages):
    for told in ("PRIVATE", "681", "private noises", "12 of 500", "for staff, with", "-10.35"):
        assert told in pages["staff"], told
        assert told not in re.sub(r'"data:[^"]+"', "", pages["public"]), told
    assert pages["public"].count("data:image") == pages["staff"].count("data:image") - 6


def test_the_public_part_has_its_own_totals_and_status():
    public = public_part(submission_result())
    assert (public.points, public.max_points, public.unchecked) == (34.5, 45.0, 0.0)
    assert public.status == "fail"
    assert [line.name for line in public.lines][-1] == "report 1"
    assert [stage.stage for stage in public.stages if "private" in stage.stage] == []
    assert public.record == {"versions": {"python": "3.11.7", "torch": "2.10.0"}}
    assert public.warnings == []


def test_a_deduction_stays_in_the_public_part_if_nothing_is_private():
    lines = [line for line in submission_result().lines if not line.private]
    assert public_part(replace(submission_result(), lines=lines)).lines[-1].name == "late"


def test_every_line_stage_check_and_warning_is_on_the_page(pages):
    result = submission_result()
    checks = [*result.digits.checks, *(c for each in result.concepts.values() for c in each.checks), *result.warnings]
    for said in (*result.lines, *result.stages, *checks):
        assert said.message in pages["staff"]
    assert "MemoryError" in pages["staff"]
    assert "line 10\n" not in pages["staff"]  # only the tail of a log
    assert "2023-11-14 22:13:20 UTC" in pages["staff"]


def test_what_could_not_be_checked_is_told_and_no_zero(pages):
    assert "3.33 of 68.33 points could not be checked (Problem 3, private prompt 0/0)" in pages["staff"]
    row = re.search(r"private prompt 0/0</bdi>.*?</tr>", pages["staff"], re.DOTALL)[0]
    assert re.search(r'<td class="right">\? <span class="soft">/ 3.33', row)
    assert "could not be checked (" not in pages["public"]


def test_private_lines_parts_and_stages_are_marked_as_such(pages):
    badge = ' <span class="badge">private</span>'
    for named in ("Problem 2, private noises</bdi>", "faces, private noises", "<bdi>hw2_2.sh private</bdi>"):
        assert named + badge in pages["staff"]
    for named in ("Problem 2, public noises</bdi>", "faces, public noises", "<bdi>hw2_2.sh public</bdi>"):
        assert named in pages["staff"]
        assert named + badge not in pages["staff"]


def test_private_parts_are_announced_where_there_are_any(pages):
    without = replace(submission_result(), lines=[line for line in submission_result().lines if not line.private])
    for page, told in (
        (pages["staff"], True),
        (class_page([submission_result()]), True),
        (submission_page(without), False),
        (class_page([without]), False),
    ):
        assert "for staff" in page
        assert ("for staff, with private parts" in page) == told


def test_a_low_digit_stands_out(pages):
    assert re.search(r"<b><span class=\"hidden\">digit 8: </span>70%</b>", pages["staff"])


def test_the_selected_images_stand_best_first(pages):
    captions = re.findall(r"<figcaption><bdi>(\d\d\.\d) · (\d\d\.\d)</bdi>", pages["staff"])
    assert captions[:5] == [(f"{score}.0", "36.0") for score in (82, 81, 80, 79, 78)]


def test_a_page_without_pictures_is_still_one():
    page = submission_page(submission_result(), Pictures())
    assert "<img" not in page
    assert "Problem 2: faces" in page


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
