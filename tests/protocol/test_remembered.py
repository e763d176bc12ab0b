"""Results are remembered for the very same values, and for few of them."""

import pytest

from protocol.errors import RemoteProtocolError
from protocol.remembered import remembered


def test_only_the_very_same_value_is_looked_up() -> None:
    asked: list[tuple[int, ...]] = []

    @remembered(2)
    def total(values: tuple[int, ...]) -> int:
        asked.append(values)
        return sum(values)

    one, equal = tuple(range(1, 4)), tuple(range(1, 4))
    assert one is not equal
    assert [total(one), total(one), total(equal), total(one)] == [6, 6, 6, 6]
    assert len(asked) == 2


def test_the_oldest_is_forgotten_beyond_the_size() -> None:
    asked: list[int] = []

    @remembered(2)
    def length(value: list[int]) -> int:
        asked.append(id(value))
        return len(value)

    values: list[list[int]] = [[], [1], [1, 2]]
    for value in (*values, values[2], values[1], values[0]):
        assert length(value) == len(value)
    assert asked == [id(value) for value in (*values, values[0])]


def test_a_refusal_is_not_remembered_as_an_answer() -> None:
    tries: list[bytes] = []

    @remembered(2)
    def check(raw: bytes) -> None:
        tries.append(raw)
        raise RemoteProtocolError("no")

    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            check(b"x")
    assert len(tries) == 2
