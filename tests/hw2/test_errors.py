import tracemalloc

import pytest

from hw2.errors import InputError


@pytest.mark.parametrize("quoted", ["\x1b[2J\n\udce9", "a" * 10**6])
def test_an_error_may_quote_anything_and_keeps_its_beginning_and_end(quoted):
    message = str(InputError(f"a.csv names {quoted}; remove the row"))
    assert message.isprintable()
    assert len(message) <= 1000
    assert message.startswith("a.csv names ")
    assert message.endswith("; remove the row")


def test_a_usual_sentence_stays_as_it_is():
    assert str(InputError("José/图.png is missing; put it there")) == "José/图.png is missing; put it there"


def test_a_message_of_any_length_costs_bounded_memory():
    message = "\0" * 2**22  # a checkpoint whose byte order is four million zero bytes
    tracemalloc.start()
    try:
        InputError(message)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
