import dataclasses
import json

from hw2.report import commands, parts
from hw2.report.texts import LANGUAGES, load_texts

CHEAP = ("digits_network", "clip_case")


def keep(monkeypatch, **changes):
    chosen = [dataclasses.replace(part, **changes) for part in parts.PARTS if part.name in CHEAP]
    monkeypatch.setattr(parts, "PARTS", tuple(chosen))


def test_the_command_writes_the_page_its_figures_and_their_numbers_and_draws_nothing_again(tmp_path, monkeypatch):
    keep(monkeypatch)
    commands.report(output=tmp_path, problems="1,3", device="cpu")
    page = (tmp_path / "report.html").read_text()
    numbers = json.loads((tmp_path / "figures" / "clip_case.json").read_text())["data"]
    assert f"{numbers['cosines'][0]:.3f}</data>" in page
    assert page.count("<img ") == 1
    assert {path.name for path in (tmp_path / "figures").glob("clip_case*")} == {
        "clip_case.json", "clip_case.csv", "clip_case.npz", "clip_case_chart.png", "clip_case_chart.svg",
    }  # fmt: skip

    def never(*_):
        raise AssertionError("computed again")

    keep(monkeypatch, compute=never, draw=never)
    commands.report(output=tmp_path, problems="1,3", device="cpu", language="zh-TW")
    assert '<html lang="zh-TW">' in (tmp_path / "report.html").read_text()
    commands.report(output=tmp_path, problems="1,3", device="cpu")
    assert (tmp_path / "report.html").read_text() == page


def test_one_problem_makes_a_page_of_one_problem(tmp_path, monkeypatch):
    keep(monkeypatch)
    commands.report(output=tmp_path, problems="1", device="cpu")
    assert not (tmp_path / "figures" / "clip_case.json").exists()
    assert 'id="problem-3"' not in (tmp_path / "report.html").read_text()


def test_the_page_of_the_embedded_files_has_a_banner(tmp_path, monkeypatch):
    keep(monkeypatch)
    for language in LANGUAGES:
        commands.report(output=tmp_path, problems="1", device="cpu", language=language)
        assert load_texts(language)["page"]["embedded"] in (tmp_path / "report.html").read_text()
