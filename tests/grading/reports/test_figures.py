from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.core.results import Figure
from grading.reports.figures import reached, shown_baseline, shown_limit, shown_value, tables


@pytest.mark.parametrize(
    ("figure", "value", "limit"),
    [
        (Figure("a", "a", 0.0, "%", baseline=0.9), "0.00%", "90.00%"),
        (Figure("a", "a", 0.89999, "%", baseline=0.9), "89.999%", "90.000%"),
        (Figure("a", "a", 0.0, decimals=4, baseline=20.0), "0.0000", "20.0000"),
        (Figure("a", "a", 1.0, decimals=0, baseline=4.0), "1", "4"),
        (Figure("a", "a", 1.5, "dB", 1, baseline=2.0), "1.5 dB", "2.0"),
        (Figure("a", "a", 70.0, baseline=68.004), "70.00", "68.004"),  # the limit is not rounded
        (Figure("a", "a", None, "%", baseline=0.9), "–", "90.00%"),
        (Figure("a", "a", 0.5, "%"), "50.00%", ""),
    ],
)
def test_a_limit_has_the_decimals_of_its_value(figure, value, limit):
    assert (shown_value(figure), shown_limit(figure)) == (value, limit)


shares = st.integers(0, 10**6).map(lambda number: number / 10**6)


@given(shares, shares, st.integers(0, 4), st.sampled_from(["", "%"]), st.booleans())
def test_whoever_compares_the_shown_value_with_the_shown_limit_finds_what_the_grader_found(
    value, limit, decimals, unit, higher
):
    figure = Figure("a", "a", value, unit, decimals, limit, higher)
    texts = [text.removesuffix("%") for text in (shown_value(figure), shown_limit(figure))]
    value, limit = map(float, texts)
    assert (value >= limit if higher else value < limit) == reached(figure)
    assert len(texts[0].partition(".")[2]) <= len(texts[1].partition(".")[2])
    assert shown_baseline(figure).split()[-1].removesuffix("%") == texts[1]


def figures_of(ssim, psnr_if_none=""):
    for row in ("00.png", "01.png"):
        yield Figure("mse", "MSE", 0.0, table="image", row=row, column="MSE")
        yield Figure("psnr", "PSNR", None, "dB", table="image", row=row, column="PSNR", if_none=psnr_if_none)
        yield Figure("ssim", "SSIM", ssim if row == "01.png" else None, table="image", row=row, column="SSIM")


@pytest.mark.parametrize(
    ("ssim", "psnr", "columns"),
    [
        (None, "", ["MSE"]),
        (0.0, "", ["MSE", "SSIM"]),  # zero is a value
        (None, "identical", ["MSE", "PSNR"]),
        (1.0, "identical", ["MSE", "PSNR", "SSIM"]),
    ],
)
def test_a_column_without_a_value_in_any_row_is_left_out(ssim, psnr, columns):
    (table,) = tables(figures_of(ssim, psnr))
    assert (table.rows, table.columns) == (["00.png", "01.png"], columns)


def test_a_table_without_any_value_keeps_its_columns():
    figures = [replace(figure, value=None) for figure in figures_of(None)]
    (table,) = tables(figures)
    assert table.columns == ["MSE", "PSNR", "SSIM"]
