"""What a person sees of the demo: steps as they are done, the training as it goes, and the report.

On a terminal the step under way is drawn anew four times a second below those that are done; into a pipe goes a line
for every step and round. Nothing here asks a node anything.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import trio
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from node.demo.words import DOINGS, Curves, Outcome, percent, shown_rounds, spark, verdict

FRAME_S = 0.25  # between drawings: looks alive, and costs a hundredth of a core
NODES_SHOWN_MAX = 8  # one line each; a terminal of 24 lines has room for these and the rest
NAMES_COLUMN = 14
SECONDS_COLUMN = 66  # a step's duration stands here; text of 80 columns wraps before
BAR_CELLS = 30
BAR_CELLS_MIN = 8
TABLE_CELLS = 64  # without its bars
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Screen:
    """Everything that is shown, on `file`: the standard output, or the standard error where programs read that."""

    def __init__(self, file: IO[str]) -> None:
        if hasattr(file, "reconfigure"):
            file.reconfigure(errors="replace")  # a terminal of another encoding than UTF-8 shows ? for some signs
        self._console = Console(file=file, markup=False, highlight=False, emoji=False, soft_wrap=False)
        self._live: Live | None = None
        self._step = ""
        self._step_began = time.monotonic()
        self._below: RenderableType = ""
        self._frame = 0

    # --- life ----------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was. May be called again."""
        if self._live is not None:
            self._live.update("", refresh=True)
            self._live.stop()
            self._live = None

    async def animate(self) -> None:
        """Draw the step under way until cancelled."""
        while True:
            self._frame += 1
            if self._live is not None:
                self._live.update(self._drawing(), refresh=True)
            await trio.sleep(FRAME_S)

    def show_drawing(self) -> None:
        """Print the step under way as it would be drawn now."""
        self._console.print(self._drawing())

    def _drawing(self) -> RenderableType:
        if not self._step:
            return ""
        spinner = _SPINNER[self._frame % len(_SPINNER)]
        return Group(Text.assemble((f"{spinner} ", "cyan"), self._step), self._below)

    # --- steps ---------------------------------------------------------------------------------------------------
    def introduce(self, nodes: int) -> None:
        """Say what is about to happen."""
        self._console.print(Text(f"{nodes} owners of data, one model, no server\n", style="bold"))
        self._console.print(
            f"Each owner runs a node: here {nodes} processes on this machine, which speak over 127.0.0.1 as they "
            "would over the internet. Each has digits that it shows to nobody. Together they train a model that reads "
            "all digits; only what they learned travels.\n"
        )

    def begin(self, step: str) -> None:
        """`step` is under way."""
        self._step, self._step_began, self._below = step, time.monotonic(), ""

    def done(self, what: str) -> None:
        """The step is done; `what` came of it."""
        self._clear()
        self._console.print(Text.assemble(("✓ ", "green"), what.ljust(SECONDS_COLUMN), (self._duration(), "dim")))

    def _clear(self) -> None:
        self._step = ""
        if self._live is not None:
            self._live.update("", refresh=True)

    def _duration(self) -> str:
        return f"{time.monotonic() - self._step_began:6.1f} s"

    def say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def shares(self, shares: Sequence[Sequence[int]], held_out: Sequence[int]) -> None:
        """Who has how many of which digit."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("")
        for digit in range(10):
            table.add_column(str(digit), justify="right", min_width=4)
        table.add_column("digits", justify="right")
        for number, counts in enumerate(shares[:NODES_SHOWN_MAX]):
            table.add_row(f"node-{number}", *map(_count, counts), str(sum(counts)))
        if len(shares) > NODES_SHOWN_MAX:
            table.add_row(f"and {len(shares) - NODES_SHOWN_MAX} more")
        table.add_row("held out", *map(_count, held_out), str(sum(held_out)), style="dim")
        self._console.print(Padding(table, (0, 0, 0, 2)))

    # --- training ------------------------------------------------------------------------------------------------
    def training(self, run: dict[str, Any], curves: Curves, pids: Mapping[str, int]) -> None:
        """How the run is now, with the nodes' processes by name. Drawn with the next frame."""
        rounds, done = run["rounds"], run["round"]
        lines: list[RenderableType] = []
        if run["aggregator_name"]:
            self._step = f"Round {min(done + 1, rounds)} of {rounds}"
            lines.append(Padding(ProgressBar(rounds, done, width=BAR_CELLS), (0, 0, 0, 2)))
        participants = sorted(run["participants"], key=lambda entry: _natural(entry["name"]))
        for entry in participants[:NODES_SHOWN_MAX]:
            doing = DOINGS.get(entry["state"], entry["state"].lower())
            elected = "elected to combine" if entry["name"] == run["aggregator_name"] else ""
            process = f"process {pids.get(entry['name'], '')}"
            lines.append(
                Text.assemble(f"  {entry['name']:8} {doing:26}", (process.ljust(18), "dim"), (elected, "magenta"))
            )
        if curves.together:
            lines.append(Text(f"  {_curve_so_far(curves)}", style="green"))
        if run["note"]:
            lines.append(Text(f"  {run['note']}", style="yellow"))
        self._below = Group(*lines)

    def scored(self, number: int, rounds: int, accuracy: float) -> None:
        """A round's checkpoint was measured. On a terminal the drawing shows it."""
        if self._live is None:
            self._console.print(f"  round {number} of {rounds}: {percent(accuracy)} of the held-out digits right")

    # --- the report ----------------------------------------------------------------------------------------------
    def report(self, outcome: Outcome, curves: Curves, held_out: int) -> None:
        """The accuracies by round, and what they say."""
        self._console.print(Text(f"\nRead right, of the {held_out} held-out digits", style="bold"))
        self._console.print(_accuracy_table(outcome.rounds_committed, curves, self._console.width))
        self._console.print(Text(verdict(outcome), style="bold"))

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """A name and a value on a line."""
        for name, value in facts:
            self._console.print(Text.assemble((name.ljust(NAMES_COLUMN), "dim"), value))

    def next_steps(self, commands: Sequence[tuple[str, str]]) -> None:
        """What to type to look further, and why."""
        self._console.print()
        width = max(len(command) for command, _ in commands) + 2
        for number, (command, why) in enumerate(commands):
            name = "" if number else "look further"
            line = Text.assemble((name.ljust(NAMES_COLUMN), "dim"), (command.ljust(width), "cyan"), (why, "dim"))
            if len(line) > self._console.width:
                line.truncate(NAMES_COLUMN + len(command))
            self._console.print(line, soft_wrap=True)  # for copying, a command stays one line


def _accuracy_table(rounds: int, curves: Curves, width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("round", justify="right", style="dim")
    table.add_column("together", justify="right", style="bold green")
    cells = min(BAR_CELLS, width - TABLE_CELLS)
    if cells >= BAR_CELLS_MIN:
        table.add_column("", style="green")
    table.add_column("each alone (mean)", justify="right", style="yellow")
    table.add_column("all data in one place", justify="right", style="cyan")
    for number in shown_rounds(rounds):
        together = curves.together.get(number, 0.0)
        bar = ["▇" * round(cells * together)] if cells >= BAR_CELLS_MIN else []
        alone, pooled = curves.alone.get(number), curves.pooled.get(number)
        table.add_row(str(number), percent(together), *bar, percent(alone), percent(pooled))
    return table


def _curve_so_far(curves: Curves) -> str:
    newest = max(curves.together)
    values = [curves.together[number] for number in sorted(curves.together)][-BAR_CELLS:]
    return f"the common model reads {percent(curves.together[newest])} of the held-out digits  {spark(values)}"


def _count(count: int) -> str:
    return str(count) if count else "·"


def _natural(name: str) -> tuple[int, str]:
    return len(name), name  # node-2 before node-10


def standard_stream(json: bool) -> IO[str]:
    """People read the standard output, unless a program does."""
    return sys.stderr if json else sys.stdout
