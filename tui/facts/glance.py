"""One look at everything: what a repaint hands to every widget that shows something."""

from dataclasses import dataclass
from functools import cached_property

from tui.facts.choice import Choice
from tui.facts.curves import Curves, Kind
from tui.facts.runs import Run
from tui.facts.state import State


@dataclass(frozen=True)
class Glance:
    """The state and the choice at one moment. `now`: the dashboard's clock in seconds."""

    state: State
    choice: Choice
    now: float

    @cached_property
    def run(self) -> Run | None:
        return self.choice.run(self.state)

    @cached_property
    def curves(self) -> Curves | None:
        return self.state.curves.get(self.run.run_id) if self.run else None

    @cached_property
    def kind(self) -> Kind | None:
        return self.choice.kind_of(self.curves)
