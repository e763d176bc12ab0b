"""Which questions to put to a feed, beyond the events that it tells by itself. Pure: says what is due, asks nothing."""

from typing import Literal, NamedTuple

from tui.run_facts import Run
from tui.state import State


class Due(NamedTuple):
    """A question to ask now."""

    about: Literal["logs", "metrics", "rounds"]
    run_id: str = ""


class Questions:
    """Earlier log lines and the shown run's metrics once a snapshot; its rounds whenever one more was committed."""

    def __init__(self) -> None:
        self._asked: dict[Due, tuple[int, int]] = {}

    def due(self, state: State, run: Run | None, *, rounds_shown: bool) -> list[Due]:
        """What to ask now; it counts as asked from here on."""
        if state.connection.state != "live":
            return []
        wanted = {Due("logs"): (state.snapshots, 0)}
        if run is not None:
            wanted[Due("metrics", run.run_id)] = (state.snapshots, 0)
            if rounds_shown:
                wanted[Due("rounds", run.run_id)] = (state.snapshots, run.round)
        due = [question for question, at in wanted.items() if self._asked.get(question) != at]
        self._asked.update((question, wanted[question]) for question in due)
        return due
