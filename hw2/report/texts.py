"""The report's sentences: one TOML file a language, and numbers that come from the data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from markupsafe import Markup, escape

LANGUAGES = ("en", "zh-TW")


@cache
def load_texts(language: str) -> dict[str, Any]:
    """All texts of a language, in nested dicts."""
    return tomllib.loads((files("hw2.report") / "texts" / f"{language}.toml").read_text(encoding="utf-8"))


class Numbers(Formatter):
    """Fills a template such as "an error of {mse[0]:.1f}" as HTML.

    Every number becomes <data>, with the unrounded number as its value and its place in the data, so that it can be
    compared with the data. `source` is the name of the part.
    """

    def __init__(self, source: str) -> None:
        self._source = source

    def fill(self, template: str, values: Mapping[str, Any]) -> Markup:
        """The template with these values. Raises KeyError for one that is not there."""
        pieces: list[Markup] = []
        for text, field, spec, _ in self.parse(template):
            pieces.append(escape(text))
            if field is not None:
                value, _ = self.get_field(field, (), values)
                pieces.append(number(value, spec or "", f"{self._source}.{field}"))
        return Markup("").join(pieces)


def number(value: Any, spec: str, place: str = "") -> Markup:
    """A value as HTML: a number as <data>, anything else as text. place: where it stands in the data."""
    shown = format(value, spec)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape(shown)
    of = Markup(' data-of="{}"').format(place) if place else Markup("")
    return Markup('<data value="{}"{}>{}</data>').format(repr(value), of, shown)


def placeholders(template: str) -> set[str]:
    """The fields of the data that a template needs."""
    found = (field for _, field, _, _ in Formatter().parse(template) if field is not None)
    return {field.partition("[")[0].partition(".")[0] for field in found}
