import re
from html.parser import HTMLParser
from string import Formatter

import pytest

from hw2.report.page import report_page
from hw2.report.parts import PARTS
from hw2.report.reproducibility import Record
from hw2.report.texts import LANGUAGES, Numbers, load_texts, placeholders
from tests.hw2.report.made import all_made

RECORD = {"versions": {"hw2": "1"}, "files": {"a.png": "00ff"}, "total": 3.0, "seed": 0, "device": "cpu", "code": "ab"}


def page_of(made, language, **options):
    seconds = {each.part.name: each.seconds for each in made}
    return report_page(
        made, language, Record(**RECORD, seconds=seconds, commands=dict.fromkeys(seconds, "hw2")), **options
    )


class NumbersOf(HTMLParser):
    """(place in the data, value, text) of each <data> that has a place."""

    def __init__(self):
        super().__init__()
        self.found, self._open, self.images, self.links = [], None, [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._open = (attrs["data-of"], attrs["value"]) if tag == "data" and "data-of" in attrs else None
        if tag == "img":
            self.images.append(attrs)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]

    def handle_data(self, data):
        if self._open:
            self.found.append((*self._open, data))
            self._open = None


def flat(texts, place=""):
    if isinstance(texts, dict):
        return {name: value for key, inner in texts.items() for name, value in flat(inner, f"{place}/{key}").items()}
    if isinstance(texts, list):
        return {name: value for i, inner in enumerate(texts) for name, value in flat(inner, f"{place}/{i}").items()}
    return {place: texts}


def test_every_text_exists_in_every_language_with_the_same_numbers():
    english, *others = (flat(load_texts(language)) for language in LANGUAGES)
    for other in others:
        assert other.keys() == english.keys()
        for place, text in english.items():
            assert sorted(fields(other[place])) == sorted(fields(text)), place


def fields(text):
    return [(field, spec) for _, field, spec, _ in Formatter().parse(text) if field is not None]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_of_a_text_is_a_field_of_the_data(part, language):
    own = load_texts(language)["parts"][part.name]
    known = set(part.kind.__dataclass_fields__)
    for name, text in own.items():
        if name != "heads":
            assert placeholders(text) <= known, name


KNOWN = re.compile(
    r"arXiv \d{4}\.\d{5}|\b(19|20)\d\d\b|equation \d+|式 \d+|section \d(?:\.\d)*|第 \d[\d.]* 節|algorithm \d+"
    r"|演算法 \d+|95 %|eta 0|100 %|0 %|of 255|255 階|100 cos|\[\d\]|-1 \.\. 1|MNIST-M"
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_caption_has_a_number_that_was_typed(language):
    for name, own in load_texts(language)["parts"].items():
        words = "".join(text for text, *_ in Formatter().parse(own["caption"]))
        assert not re.search(r"\d", KNOWN.sub("", words)), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_in_a_caption_is_that_of_the_data(language):
    made = all_made()
    parser = NumbersOf()
    parser.feed(page_of(made, language))
    numbers = {each.part.name: each.numbers for each in made}
    assert {place.partition(".")[0] for place, *_ in parser.found} == {part.name for part in PARTS}
    for place, value, shown in parser.found:
        name, _, field = place.partition(".")
        true, _ = Formatter().get_field(field, (), numbers[name])
        assert value == repr(true)
        said = float(shown.rstrip("%").replace(",", "")) / (100 if shown.endswith("%") else 1)
        decimals = len(shown.rstrip("%").partition(".")[2]) + (2 if shown.endswith("%") else 0)
        assert abs(said - true) <= 0.5 * 10**-decimals + 1e-9 * abs(true) or f"{true:g}" == shown, place


def test_another_run_has_other_numbers_on_the_page():
    pages = [page_of(all_made(seed), "en") for seed in (0, 1)]
    assert re.sub(r"<data.*?</data>", "", pages[0]) != pages[0]
    shown = [re.findall(r"<data[^>]*data-of[^>]*>([^<]*)", page) for page in pages]
    same = sum(a == b for a, b in zip(*shown, strict=True))
    assert same < len(shown[0]) / 4


def test_a_text_with_a_number_that_is_not_in_the_data_is_refused():
    with pytest.raises(KeyError, match="mse"):
        Numbers("part").fill("an error of {mse:.1f}", {"error": 1.0})


@pytest.mark.parametrize("language", LANGUAGES)
def test_nearly_all_recognized_digits_are_not_all(language):
    (curves,) = (each for each in all_made() if each.part.name == "digits_curves")
    numbers = curves.numbers | {"last_accuracy": [0.9952, 0.75]}
    caption = Numbers("").fill(load_texts(language)["parts"]["digits_curves"]["caption"], numbers)
    assert ">99.5%<" in caption
    assert ">75.0%<" in caption


def test_text_from_a_file_is_not_markup():
    assert Numbers("part").fill("<b> {name}", {"name": "<script>"}) == "&lt;b&gt; &lt;script&gt;"


def test_the_page_loads_nothing_and_runs_nothing():
    page = page_of(all_made(), "en")
    parser = NumbersOf()
    parser.feed(page)
    assert all(link.startswith(("#", "data:")) for link in parser.links)
    assert "default-src 'none'" in page
    assert "<script" not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_of_embedded_files_says_so_above_its_title(language):
    sentence = load_texts(language)["page"]["embedded"]
    pages = {embedded: page_of([], language, embedded=embedded) for embedded in (True, False)}
    assert pages[True].index(f'<p class="banner">{sentence}</p>') < pages[True].index("<h1>")
    assert sentence not in pages[False]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_part_of_the_problems_makes_a_page_of_these(language):
    made = [each for each in all_made() if each.part.problem == 2]
    page = page_of(made, language)
    assert 'id="problem-2"' in page
    assert 'id="problem-1"' not in page
    assert f'<html lang="{language}">' in page
