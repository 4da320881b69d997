import html
import re

from grading.homeworks.fall2024 import FALL2024
from grading.reports.class_page import class_page
from grading.reports.submission_page import student_page, submission_page
from tests.grading.browser import needs_paper, print_page
from tests.grading.reported import submission_result

FILLED = range(600, 1000, 25)
"""Pixels above a section on its sheet. A sheet has about 950, so that every section meets its end."""


def text_of(markup):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def sections_at_many_heights(page):
    """The page's sections, each on a new sheet of paper below an empty space of each height."""
    start, rest = page.split("<body>")
    sections = re.split(r"(?=<h2)", rest.split("</main>")[0])[1:]
    assert sections
    spaced = "".join(
        f'<div style="break-before:page;height:{height}px"></div>{section}' for section in sections for height in FILLED
    )
    return f"{start}<body><main>{spaced}</main></body></html>"


@needs_paper
def test_no_heading_stands_alone_at_the_foot_of_a_sheet(tmp_path):
    result = submission_result()
    pages = {
        "staff": submission_page(result, {}, FALL2024),
        "student": student_page(result, {}, FALL2024),
        "class": class_page([submission_result(f"r{i}") for i in range(3)], FALL2024),
    }
    for name, page in pages.items():
        headings = {
            text_of(found) for found in re.findall(r"<(?:h2|h3|summary)\b.*?</(?:h2|h3|summary)>", page, re.DOTALL)
        }
        (tmp_path / name).mkdir()
        sheets = print_page(tmp_path / name, sections_at_many_heights(page))
        printed = [text_of(line) for sheet in sheets for line in sheet.splitlines()]
        assert {"Runs", "Failed runs"} & set(printed), name  # headings are found in what is printed
        last = [text_of(sheet.strip().splitlines()[-1]) for sheet in sheets if sheet.strip()]
        assert [line for line in last if line in headings] == [], name
