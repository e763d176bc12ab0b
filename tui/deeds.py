"""What can be done about runs from here: accept, decline, stop, resume. What cannot be taken back is asked once."""

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.app import App
from textual.notifications import SeverityLevel

from tui.actions import Actions
from tui.facts.choice import Choice
from tui.facts.commands import Path
from tui.facts.fields import text
from tui.facts.runs import STATES_ENDED, Run
from tui.facts.state import State
from tui.feeds.command_line import CommandLine
from tui.feeds.feed import Feed, FeedError
from tui.widgets.dialogs import Question
from tui.widgets.palette import Deed

if TYPE_CHECKING:
    from tui.app import Dashboard


class OwnersApp(App[None]):
    """An app in which a node's owner decides on the chosen run, or on the one that waits for a decision."""

    def __init__(self, feed: Feed, command_line: CommandLine | None = None) -> None:
        super().__init__()
        self.feed = feed
        self.actions = Actions(cast("Dashboard", self), command_line)
        self.lately: list[str] = []  # what was used in the palette, the newest first
        self.state = State()
        self.choice = Choice()
        self._doable: tuple[bool, ...] = ()
        self._offered = ""  # the run that the picture says waits for an answer

    async def load_deeds(self) -> None:
        """Called when the palette opens."""
        await self.actions.load()

    def open_command(self, path: Path, given: Mapping[str, str] | None = None) -> None:
        """Open the form of a command: see tui.actions."""
        self.actions.open_command(path, given)

    def action_propose(self) -> None:
        self.actions.propose()

    def action_accept(self) -> None:
        if run := self._in_sight():
            self.actions.accept(run.run_id)

    def action_decline(self) -> None:
        if run := self._in_sight():
            self.actions.decline(run.run_id)

    def action_stop(self) -> None:
        if run := self._stoppable():
            question = Question(
                f"Stop {run.name}?", f"{run.name} ends for all of its nodes at round {run.round}. It can be resumed."
            )
            self.push_screen(question, partial(self._stopped, run))

    def action_resume(self) -> None:
        if run := self._resumable():
            self.do(self.feed.tell("POST", "runs", run.run_id, "resume"), f"asked for {run.name} to go on")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("accept", "decline"):
            return self._asking() is not None
        return self._stoppable() is not None if action == "stop" else True

    def run_deeds(self) -> list[Deed]:
        """What the owner can decide now, by name, and what can be done at any time."""
        deeds: list[Deed] = []
        if run := self._asking():
            accept, decline = partial(self.actions.accept, run.run_id), partial(self.actions.decline, run.run_id)
            deeds.append(Deed(f"Accept run {run.name}", "take part with our data", accept, "a"))
            deeds.append(Deed(f"Decline run {run.name}", "take no part; asks once", decline, "x"))
        if run := self._stoppable():
            deeds.append(Deed(f"Stop run {run.name}", "for all of its nodes; asks once", self.action_stop, "S"))
        if run := self._resumable():
            deeds.append(Deed(f"Resume run {run.name}", "from its newest checkpoint", self.action_resume))
        return [*deeds, *self.actions.deeds()]

    def show_doable(self) -> None:
        """Let the footer offer what can be done now."""
        asking = self._asking()
        self._offered = asking.run_id if asking else ""
        doable = (asking is not None, self._stoppable() is not None)
        if doable != self._doable:
            self._doable = doable
            self.refresh_bindings()

    def tell(self, text: str, *, severity: SeverityLevel = "information") -> None:
        """A short word in the corner, never taken for markup."""
        self.notify(text, severity=severity, markup=False, timeout=4)

    def _chosen(self) -> Run | None:
        """The chosen run, where something can be done about it: not in a record."""
        return None if self.feed.title else self.choice.run(self.state)

    def _asking(self) -> Run | None:
        if self.feed.title:
            return None
        chosen = self._chosen()
        if chosen is not None and chosen.asks_us:
            return chosen
        return next((run for run in self.state.runs() if run.asks_us), None)

    def _in_sight(self) -> Run | None:
        """The run that the picture says waits: one that is proposed just as a key is pressed is not what is meant."""
        asking = self._asking()
        chosen = self._chosen()
        if asking is not None and chosen is not None and asking.run_id == chosen.run_id:
            return asking
        offered = self.state.run(self._offered) if asking else None
        return offered if offered is not None and offered.asks_us else None

    def _stoppable(self) -> Run | None:
        chosen = self._chosen()
        return chosen if chosen is not None and not chosen.ended else None

    def _resumable(self) -> Run | None:
        chosen = self._chosen()
        return chosen if chosen is not None and chosen.state == "STOPPED" else None

    def _stopped(self, run: Run, yes: bool | None) -> None:
        if yes:
            self.do(self._stop(run))

    async def _stop(self, run: Run) -> str:
        answer = await self.feed.tell("POST", "runs", run.run_id, "stop")
        if answer.get("asked") is not False:
            return f"asked for {run.name} to stop"
        state = text(answer, "state")
        said = f"has ended already: {state}" if state in STATES_ENDED else "was told to stop before"
        return f"{run.name} {said}"

    def do(self, wish: Coroutine[Any, Any, object], done: str = "") -> None:
        """Carry a wish out and say `done`, or the text that the wish gives when there is no `done`, or why not."""
        self.run_worker(self._carry_out(wish, done), group="deeds")

    async def _carry_out(self, wish: Coroutine[Any, Any, object], done: str) -> None:
        try:
            said = await wish
        except FeedError as error:
            self.tell(str(error), severity="error")
        else:
            self.tell(done or str(said))
