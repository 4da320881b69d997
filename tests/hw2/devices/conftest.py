"""What a test finds out about GPUs is not kept for the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw2.devices import choose


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    choose.cuda_problem.cache_clear()
    yield
    choose.cuda_problem.cache_clear()
