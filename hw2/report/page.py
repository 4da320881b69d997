"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from hw2.report.part import Made, Part, Row
from hw2.report.parts import PARTS
from hw2.report.reproducibility import Record
from hw2.report.texts import Numbers, load_texts, number


@dataclass(frozen=True)
class Shown:
    """A picture on the page. uri: a data: URI. width, height: in pixels of the PNG."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Table:
    """A table on the page."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Markup]]]


@dataclass(frozen=True)
class Section:
    """A part on the page."""

    name: str
    title: str
    pictures: Sequence[Shown]
    table: Table | None
    caption: Markup


def report_page(
    made: Sequence[Made], language: str, record: Record, absent: Sequence[Part] = (), *, embedded: bool = False
) -> str:
    """The page of these parts.

    record: what reproduces them. absent: parts whose inputs are not given. embedded: whether any file is the embedded
    one; a banner then says so.
    """
    texts = load_texts(language)
    order = [part.name for part in PARTS]
    found = [(each.part, _section(each, texts)) for each in made] + [(part, _absent(part, texts)) for part in absent]
    found.sort(key=lambda item: order.index(item[0].name))
    problems = sorted({part.problem for part, _ in found})
    sections = {problem: [section for part, section in found if part.problem == problem] for problem in problems}
    return _environment().get_template("report.html").render(
        texts=texts, language=language, sections=sections, record=record, made=made, embedded=embedded
    )  # fmt: skip


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("hw2.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.globals["number"] = number
    return found


def _section(made: Made, texts: Mapping[str, Any]) -> Section:
    part, own = made.part, texts["parts"][made.part.name]
    fill = Numbers(part.name)
    pictures = [_shown(path, name, fill.fill(own[f"alt_{name}"], made.numbers)) for name, path in made.pictures.items()]
    rows = part.rows(made.data)
    table = _table(part.formats, rows, own, texts["rows"].get(part.name, {})) if rows else None
    values = {**made.numbers, **_named(made.numbers, texts["rows"].get(part.name, {}))}
    return Section(part.name, own["title"], pictures, table, fill.fill(own["caption"], values))


def _absent(part: Part, texts: Mapping[str, Any]) -> Section:
    own = texts["parts"][part.name]
    return Section(part.name, own["title"], (), None, escape(own["absent"]))


def _named(numbers: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """The texts of fields that hold the key of a row."""
    return {field: names[value] for field, value in numbers.items() if isinstance(value, str) and value in names}


def _table(formats: Sequence[str], rows: Sequence[Row], own: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    cells = [
        (names.get(row.key, row.key), [number(value, form) for value, form in zip(row.cells, formats, strict=True)])
        for row in rows
    ]
    return Table(own["heads"], cells)


def _shown(path: Path, name: str, alt: Markup) -> Shown:
    """The picture inline: pixels as PNG, charts as SVG."""
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    with Image.open(png) as image:
        width, height = image.size
    file, kind = (png, "png") if name == "grid" else (svg, "svg+xml")
    uri = f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    return Shown(uri, alt.striptags(), width, height)
