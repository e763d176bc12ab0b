"""What the person at the dashboard has chosen to look at: a run, a kind of curve, a node, filters. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tui.facts.curves import Curves, Kind
from tui.facts.nodes import LEVELS
from tui.facts.runs import Run
from tui.facts.state import State

_MOST_WANTED = ("RUNNING", "GATHERING", "PROPOSED")


@dataclass(slots=True)
class Choice:
    """Starts with nothing chosen: then the run most worth a look is shown, and its most telling curve.

    A run that ends while it is looked at stays in sight until another is running.
    """

    run_id: str = ""
    kind: Kind | None = None
    node_id: str = ""
    filters: dict[str, str] = field(default_factory=dict)  # by the name of what is filtered
    marked: dict[str, None] = field(default_factory=dict)  # ids of runs to compare, in the order of choice
    level: int = 1  # the least level of log lines shown, an index into LEVELS
    log_node: str = ""  # whose lines alone are shown, and of which run; empty for all
    log_run: str = ""
    _looked_at: str = ""  # the run shown without having been chosen

    def run(self, state: State) -> Run | None:
        """The run to show: the chosen one, else the one looked at, else the one most worth a look."""
        chosen = state.run(self.run_id) if self.run_id else None
        return chosen or state.run(self._looked_at) or _most_worth_a_look(state.runs())

    def keep_up(self, state: State) -> None:
        """Look at another run if that is called for. To be called before each look."""
        looked_at, best = state.run(self._looked_at), _most_worth_a_look(state.runs())
        if best is not None and (looked_at is None or (looked_at.ended and best.state == "RUNNING")):
            self._looked_at = best.run_id

    def next_run(self, state: State, step: int) -> None:
        """Go `step` runs on, in the order of the list, round and round."""
        runs = state.runs()
        now = self.run(state)
        if now is not None:
            ids = [run.run_id for run in runs]
            at = ids.index(now.run_id) if now.run_id in ids else -1  # one that only the list of all runs has
            self.run_id = ids[(at + step) % len(ids)] if ids else ""

    def kind_of(self, curves: Curves | None) -> Kind | None:
        """The chosen kind of curve if this run has it, else its most telling one."""
        kinds = curves.kinds() if curves else []
        return self.kind if self.kind in kinds else next(iter(kinds), None)

    def next_kind(self, curves: Curves | None, step: int) -> None:
        """Go `step` kinds of curve on, round and round."""
        kinds = curves.kinds() if curves else []
        now = self.kind_of(curves)
        if now is not None:
            self.kind = kinds[(kinds.index(now) + step) % len(kinds)]

    def filter(self, name: str) -> str:
        return self.filters.get(name, "")

    def next_level(self) -> str:
        """Raise the least level of log lines, from the highest back to the lowest; returns its name."""
        self.level = (self.level + 1) % len(LEVELS)
        return LEVELS[self.level]


def _most_worth_a_look(runs: Sequence[Run]) -> Run | None:
    for state in _MOST_WANTED:
        for run in runs:
            if run.state == state:
                return run
    return runs[0] if runs else None
