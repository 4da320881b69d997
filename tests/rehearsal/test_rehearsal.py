"""The GPU code at real size without a GPU; see the package. The short cases run here."""

from __future__ import annotations

import pytest

from tests.rehearsal.cases import CASES
from tests.rehearsal.measure import Case
from tests.rehearsal.mistakes import MISTAKES
from tests.rehearsal.rows import Row
from tests.rehearsal.run import missing, rehearse

pytestmark = pytest.mark.rehearsal
SHORT = [name for name, case in CASES.items() if case.short]
LONG = [name for name, case in CASES.items() if case.long]


@pytest.fixture(scope="session")
def rows() -> dict[str, Row]:
    """The rows of all short cases and mistakes, by name."""
    if lack := missing():
        pytest.skip(lack)
    return {row.name: row for row in rehearse([*SHORT, *(case.name for case in MISTAKES)], workers=1)}


@pytest.mark.parametrize("name", SHORT)
def test_it_runs_on_the_right_device_within_its_memory_and_waits(rows: dict[str, Row], name: str) -> None:
    faults = rows[name].faults()
    assert not faults, "; ".join(faults)


@pytest.mark.long
def test_longer_cases_run_on_the_right_device_within_their_memory_and_waits() -> None:
    if lack := missing():
        pytest.skip(lack)
    faults = [f"{row.name}: {fault}" for row in rehearse(LONG) for fault in row.faults()]
    assert not faults, "; ".join(faults)


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name)
def test_the_fake_device_finds(rows: dict[str, Row], case: Case) -> None:
    assert MISTAKES[case] in " ".join(rows[case.name].faults())
