"""Puts the dashboard on a stage for a test: a size, a client, a clock that stands still."""

import asyncio
import io
from contextlib import asynccontextmanager

from rich.console import Console
from tui_time import StageLoop, hurried

from tui.app import Dashboard
from tui.feeds.feed import LiveFeed
from tui.widgets.dialogs import Question

DEADLINE_S = 60.0  # where time is the machine's, the machine may be a loaded one


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Stage:
    """A dashboard that runs without a terminal."""

    def __init__(self, app, pilot, clock):
        self.app, self.pilot, self.clock = app, pilot, clock

    async def press(self, *keys):
        for key in keys:
            await self.pilot.press(key)
        await self.pilot.pause()

    async def until(self, condition):
        """Go on until `condition()` is true; every turn lets all messages be handled."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.pilot.pause()

    async def agree(self):
        """Say yes to the question that is to open."""
        await self.until(lambda: isinstance(self.app.screen, Question))
        await self.press("y")

    async def settle(self):
        """Everything that was told is painted, and nothing is on its way any more."""
        self.clock.now += 10
        await self.pilot.pause()
        self.app.paint()
        await self.pilot.pause()

    async def at_rest(self):
        """Every question is answered, those too that the answers led to, and what came of it is painted."""
        for _ in range(2):
            await self.settle()
            await self.until(lambda: not self.app.questions.waiting)
        await self.settle()

    def told(self):
        """The words in the corner."""
        return " | ".join(notification.message for notification in self.app._notifications)

    def text(self):
        """The screen's characters."""
        width, height = self.app.size
        console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, record=True)
        console.print(self.app.screen._compositor.render_update(full=True, screen_stack=self.app._background_screens))
        return "\n".join(line.rstrip() for line in console.export_text().split("\n")).rstrip() + "\n"


@asynccontextmanager
async def stage(client, size=(120, 36), feed=None, repaint_s=0.0, **given):
    clock = Clock()
    app = Dashboard(feed or LiveFeed(client.connect, retry_first_s=0.001), clock=clock, repaint_s=repaint_s, **given)
    with hurried():
        async with app.run_test(size=size, notifications=True) as pilot:
            on_stage = Stage(app, pilot, clock)
            await on_stage.until(lambda: app.state.snapshots or app.state.connection.state == "absent")
            await on_stage.settle()
            yield on_stage


def play(scene):
    """Run a test's scene within a deadline."""

    async def within_deadline():
        async with asyncio.timeout(DEADLINE_S * 2):
            await scene()

    with asyncio.Runner(loop_factory=StageLoop) as runner:
        runner.run(within_deadline())
