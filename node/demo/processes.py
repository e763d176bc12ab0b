"""The demo's processes: real nodes with homes of their own, and none of them left behind.

Every process holds the reading end of one pipe, and the demo alone its writing end. To stop them all the demo closes
that end, and where the demo itself is killed the kernel does (node.lifeline): one way, used every time.
"""

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from fednode_client import AsyncClient
from node.cli.passphrases import PRESENT
from node.detach import ANSWER_BYTES_MAX, STDERR, search_path
from node.training.worker_process import THREAD_VARIABLES
from protocol.errors import FednodeError

HOST = "127.0.0.1"
START_DEADLINE_S = 120.0  # a start takes 1.5 CPU seconds, and thirty nodes may start at once on two cores
END_DEADLINE_S = 10.0  # a node stops within 5 s, and ends itself by force after 8
FIRST_PORT, LAST_PORT = 20_000, 32_000  # where node.home.home looks: below what systems give to outgoing connections
PORT_ATTEMPTS_MAX = 50
PIECE_BYTES = 65_536


class Children:
    """Processes that end with this one. `end` them before leaving."""

    def __init__(self) -> None:
        self.lifeline, self._ours = os.pipe()
        self._processes: list[trio.Process] = []
        self._is_open = True

    async def start(
        self, arguments: Sequence[str], *, stderr: Path, pass_fds: Sequence[int] = (), pipes: bool = False
    ) -> trio.Process:
        """Start `python ARGUMENTS`, in a session of its own: Ctrl-C is for us to hear. With `pipes` its input and
        output are streams. Raises FednodeError."""
        piped = subprocess.PIPE if pipes else subprocess.DEVNULL
        one_thread = dict.fromkeys(THREAD_VARIABLES, "1")
        # A passphrase of the user's own keys is nothing to keys that are gone in a minute.
        inherited = {name: value for name, value in os.environ.items() if name != PRESENT}
        with stderr.open("wb") as errors, trio.CancelScope(shield=True):  # started, it is in our list
            try:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-P", *arguments],
                    stdin=piped,
                    stdout=piped,
                    stderr=errors,
                    pass_fds=(self.lifeline, *pass_fds),
                    cwd="/",
                    env={**inherited, "PYTHONPATH": search_path(), **one_thread},
                    start_new_session=True,
                )
            except OSError as error:
                raise FednodeError(
                    f"No process could be started ({error})", remedy="free memory or processes on this machine"
                ) from error
            self._processes.append(process)
        return process

    async def end(self) -> None:
        """Have all end in order, or after END_DEADLINE_S by force; wait until they have. May be called again."""
        with trio.CancelScope(shield=True):
            if self._is_open:
                self._is_open = False
                os.close(self._ours)
            with trio.move_on_after(END_DEADLINE_S):
                await self._all_ended()
            self.kill()
            await self._all_ended()

    async def _all_ended(self) -> None:
        for process in self._processes:
            await process.wait()

    def kill(self) -> None:
        """End all at once. Their workers end with them."""
        for process in self._processes:
            process.kill()


@dataclass(slots=True)
class DemoNode:
    """A running node of the demo."""

    name: str
    home: Path
    port: int
    process: trio.Process
    client: AsyncClient
    is_up: bool = True


async def start_node(children: Children, name: str, home: Path, port: int) -> DemoNode:
    """Start the node `name` at `home`, a folder, and wait until it is up. Raises FednodeError with what it says."""
    ours, theirs = os.pipe()
    async with trio.lowlevel.FdStream(ours) as outcome:
        try:
            process = await children.start(
                [
                    *("-m", "node", "start", "--home", str(home), "--listen", f"{HOST}:{port}"),
                    *("--name", name, "--member-name", name.replace("node", "owner")),
                    *("--ready-fd", str(theirs), "--lifeline-fd", str(children.lifeline)),
                ],
                stderr=home / STDERR,
                pass_fds=[theirs],
            )
        finally:
            os.close(theirs)
        told = await _outcome(outcome, name, home)
    if "error" in told:
        raise FednodeError(f"{name} did not start: {told['error']['what']}", remedy=told["error"]["remedy"])
    return DemoNode(name, home, port, process, AsyncClient(home))


async def _outcome(stream: trio.lowlevel.FdStream, name: str, home: Path) -> dict[str, Any]:
    with trio.move_on_after(START_DEADLINE_S):
        async with aclosing(lines_of(stream)) as lines:
            async for line in lines:
                told: dict[str, Any] = json.loads(line)
                return told
        raise FednodeError(f"{name} ended before it was up", remedy=f"see {home / STDERR}")
    raise FednodeError(f"{name} was not up within {START_DEADLINE_S:.0f} s", remedy=f"see {home / 'node.log'}")


async def lines_of(stream: trio.abc.ReceiveStream) -> AsyncGenerator[bytes, None]:
    """The lines of what one of our own processes writes, until it ends. Raises FednodeError for an endless one."""
    rest = b""
    while piece := await stream.receive_some(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > ANSWER_BYTES_MAX:
            raise FednodeError("A process of the demo wrote a line without end", remedy="report it")


def free_ports(nodes: int) -> list[int]:
    """For each node the first of two neighbouring ports that are free. Raises FednodeError when there are too few.

    Chosen for all at once, for nodes that start together could choose the same.
    """
    wanted = 2 * nodes
    for _ in range(PORT_ATTEMPTS_MAX):
        first = random.randrange(FIRST_PORT, LAST_PORT - wanted)
        if all(map(_is_free, range(first, first + wanted))):
            return list(range(first, first + wanted, 2))
    raise FednodeError(f"No {wanted} neighbouring ports are free at {HOST}", remedy="try again with fewer --nodes")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind((HOST, port))
        return True
    return False
