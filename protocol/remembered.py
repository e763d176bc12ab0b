"""Results of pure functions, remembered for the very values, or the same bytes, that they came from.

Whoever opens a message with a thousand signed entries opens it again with the commit that follows; a simulation hands
one and the same message to a thousand nodes. What was checked once of the same frozen value need not be checked again:
the same, by identity, so that looking it up costs nothing however large the value is.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def remembered(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function remember its last `size` results. For functions of frozen values alone, called by position.

    What it raises is not remembered. The values are kept as long as their results, so `size` bounds the memory.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known: dict[tuple[int, ...], tuple[object, R]] = {}

        def recall(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs:
                return function(*args, **kwargs)
            key = tuple(map(id, args))
            found = known.get(key)
            if found is None:
                # With the values themselves: while they are kept, nothing else can have their identities.
                found = args, function(*args)  # type: ignore[call-arg]
                while len(known) >= size:
                    known.pop(next(iter(known)), None)
                known[key] = found
            return found[1]

        return recall

    return decorate


def remembered_bytes(bytes_max: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function remember its last results, for so many bytes as have `bytes_max` together: its last argument.

    For what opens bytes that anybody may send: however long or many they are, what is kept of them stays bounded. What
    it raises is not remembered. Called by position.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known: dict[tuple[object, ...], R] = {}  # the oldest first
        held = 0

        def recall(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal held
            found = known.get(args)
            if found is None:
                found = function(*args, **kwargs)
                known[args] = found
                held += _size_of(args)
                while held > bytes_max:
                    oldest = next(iter(known))
                    held -= _size_of(oldest)
                    del known[oldest]
            return found

        return recall

    return decorate


def _size_of(arguments: tuple[object, ...]) -> int:
    raw = arguments[-1]
    assert isinstance(raw, bytes)
    return len(raw)
