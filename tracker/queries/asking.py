"""Questions to a record that two ask: a node, which waits for its record, and whoever opens a store's file and has the
answer at once. Such a question is a generator that yields named queries with their parameters and is sent their rows.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

Json = dict[str, Any]
T = TypeVar("T")
Asking = Generator[tuple[str, Json], list[Json], T]


async def answered(asking: Asking[T], query: Callable[..., Awaitable[list[Json]]]) -> T:
    """What `asking` comes to. `query(name, **parameters)` is the record's."""
    try:
        name, parameters = next(asking)
        while True:
            name, parameters = asking.send(await query(name, **parameters))
    except StopIteration as end:
        given: T = end.value
        return given


def answered_now(asking: Asking[T], query: Callable[[str, Json], list[Json]]) -> T:
    """The same where the record answers at once."""
    try:
        name, parameters = next(asking)
        while True:
            name, parameters = asking.send(query(name, parameters))
    except StopIteration as end:
        given: T = end.value
        return given
