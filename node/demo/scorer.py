"""The demo's end of node.demo.scores: asks for scores, and keeps what comes back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from node.demo.processes import Children, lines_of
from node.demo.words import Curves
from protocol.errors import FednodeError

STDERR = "scores.stderr"
MISSED_MAX = 40  # a node may be ended by hand while we ask, or not hold a round yet; a majority of the others does
MISSED_PAUSE_S = 0.3
LAST_WORDS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Dealt:
    """Who has how many of which digit, nodes in order, and the nodes' files."""

    shares: list[list[int]]
    held_out: list[int]
    files: list[Path]


class Scorer:
    """Runs the scoring program in `folder`.

    `home(n)` is of a node that is up, of another for another n; `scored(round, accuracy)` is told of every checkpoint.
    """

    def __init__(
        self,
        children: Children,
        folder: Path,
        *,
        nodes: int,
        rounds: int,
        home: Callable[[int], Path],
        scored: Callable[[int, float], None],
    ) -> None:
        self.curves = Curves()
        self.model_bytes = 0
        self._children = children
        self._folder = folder
        self._nodes = nodes
        self._rounds = rounds
        self._home = home
        self._scored = scored
        self._run = ""
        self._asked = self._missed = 0
        self._dealt: Dealt | None = None
        self._process: trio.Process | None = None
        self._news = trio.Event()

    async def run(self) -> None:
        """Run the program to its end, or until cancelled. Raises FednodeError when it fails."""
        arguments = [str(self._folder), str(self._nodes), str(self._rounds), str(self._children.lifeline)]
        stderr = self._folder / STDERR
        self._process = await self._children.start(["-m", "node.demo.scores", *arguments], stderr=stderr, pipes=True)
        assert self._process.stdout is not None  # asked for above
        async for line in lines_of(self._process.stdout):
            await self._take(json.loads(line))
            self._news.set()
            self._news = trio.Event()
        if await self._process.wait():
            words = stderr.read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace").strip().splitlines()
            raise FednodeError(
                f"The comparison failed: {words[-1] if words else self._process.returncode}", remedy=f"see {stderr}"
            )

    async def _take(self, told: dict[str, object]) -> None:
        match told:
            case {"is": "dealt", "shares": list(shares), "held_out": list(held_out), "files": list(files)}:
                self._dealt = Dealt(shares, held_out, [Path(file) for file in files])
            case {"is": "compared", "round": int(number), "alone": float(alone), "pooled": float(pooled)}:
                self.curves.alone[number], self.curves.pooled[number] = alone, pooled
            case {"is": "scored", "round": int(number), "accuracy": float(accuracy), "model_bytes": int(size)}:
                self.curves.together[number], self.model_bytes = accuracy, size
                self._scored(number, accuracy)
            case {"is": "missed", "round": int(number)}:
                await self._ask_again(number)

    async def dealt(self) -> Dealt:
        """Wait until the digits are dealt out."""
        while self._dealt is None:
            await self._news.wait()
        return self._dealt

    async def ask_up_to(self, run: str, last: int) -> None:
        """Have the run's checkpoints up to round `last` measured, each once."""
        self._run = run
        while self._asked < last:
            self._asked += 1
            await self._ask(self._asked)

    async def measured(self, rounds: int) -> None:
        """Wait until every checkpoint up to round `rounds` is measured."""
        while not self.curves.together.keys() >= set(range(1, rounds + 1)):
            await self._news.wait()

    async def complete(self, rounds: int) -> None:
        """Wait until everything is measured and compared up to `rounds`."""
        while not self.curves.are_complete(rounds):
            await self._news.wait()

    async def _ask(self, number: int) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        request = {"home": str(self._home(self._missed)), "run": self._run, "round": number}
        await self._process.stdin.send_all(json.dumps(request).encode() + b"\n")

    async def _ask_again(self, number: int) -> None:
        self._missed += 1
        if self._missed > MISSED_MAX:
            raise FednodeError(f"No node gave the checkpoint of round {number}", remedy="see the nodes' node.log")
        await trio.sleep(MISSED_PAUSE_S)
        await self._ask(number)
