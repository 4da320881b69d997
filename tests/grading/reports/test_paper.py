import html
import re

from grading.homeworks.fall2024 import FALL2024
from grading.reports.class_page import class_page
from grading.reports.submission_page import student_page, submission_page
from tests.grading.browser import needs_paper, print_page
from tests.grading.reported import submission_result

FILLED = range(600, 1000, 50)
"""Pixels above a section on its sheet. A sheet has about 950, so that every section meets its end."""


def text_of(markup):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def sections_at_many_heights(pages):
    """The sections of all pages, each on a new sheet of paper below an empty space of each height."""
    (start,) = {re.sub("<title>.*</title>", "", page.split("<body>")[0], flags=re.DOTALL) for page in pages}
    sections = {section for page in pages for section in re.split(r"(?=<h2)", page.split("</main>")[0])[1:]}
    assert len(sections) > 10
    spaced = "".join(
        f'<div style="break-before:page;height:{height}px"></div>{section}'
        for section in sorted(sections)
        for height in FILLED
    )
    return f"{start}<body><main>{spaced}</main></body></html>"


@needs_paper
def test_no_heading_stands_alone_at_the_foot_of_a_sheet(tmp_path):
    result = submission_result()
    pages = [
        submission_page(result, {}, FALL2024),
        student_page(result, {}, FALL2024),
        class_page([submission_result(f"r{i}") for i in range(3)], FALL2024),
    ]
    headings = {
        text_of(found)
        for page in pages
        for found in re.findall(r"<(?:h2|h3|summary)\b.*?</(?:h2|h3|summary)>", page, re.DOTALL)
    }
    sheets = print_page(tmp_path, sections_at_many_heights(pages))
    printed = [text_of(line) for sheet in sheets for line in sheet.splitlines()]
    assert {"Runs", "Failed runs"} <= set(printed)  # headings are found in what is printed
    last = [text_of(sheet.strip().splitlines()[-1]) for sheet in sheets if sheet.strip()]
    assert [line for line in last if line in headings] == []
