"""One real node for tests: a process with a home of its own on 127.0.0.1, and waits that end with a word.

Every wait has a deadline and says what was last seen. What a node prints goes into a file beside its home.
"""

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fednode import Client

ROOT = Path(__file__).parents[2]
START_DEADLINE_S = 60.0  # alone a node is up in 2.5 s; the tests' machines are never alone
WAIT_DEADLINE_S = 40.0
COMMAND_DEADLINE_S = 60.0
# Every node promises 5 s, and then ends by force with another exit code; a busy machine may be late to see it.
STOP_S = 8.0
POLL_S = 0.05
STDERR_CHARACTERS_SHOWN = 4000
LINES_SHOWN = 40  # before and after a traceback's first
ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})
OTHER_END = {"cut": "cut", "black-hole": "black-hole", "mute": "deaf", "deaf": "mute"}  # half-open is one end's alone

# Below those that nodes draw from (node.home.home), and so below those of outgoing connections.
FIRST_PORT, LAST_PORT = 10_000, 20_000

Json = dict[str, Any]
T = TypeVar("T")


def _free_ports() -> Iterator[int]:
    """The first of two neighbouring ports that are free, each pair once: from anywhere on, for there may be others who
    test on this machine."""
    first = random.randrange(FIRST_PORT, LAST_PORT, 2)
    for port in cycle([*range(first, LAST_PORT, 2), *range(FIRST_PORT, first, 2)]):
        if _is_free(port) and _is_free(port + 1):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


_ports = _free_ports()


def wait_until(condition: Callable[[], T], what: str, within_s: float = WAIT_DEADLINE_S) -> T:
    """What `condition` gives once it gives something true. Raises AssertionError when it never does."""
    deadline = time.monotonic() + within_s
    while not (given := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        time.sleep(POLL_S)
    return given


class RealNode:
    """One node: `fednode start` as a process in the foreground, its client, its command line."""

    def __init__(self, base: Path, name: str, *, breakable: bool = False) -> None:
        self.name = name
        self.home = base / name
        self.client = Client(self.home)
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None  # of the last process that ended
        self._stderr = base / f"{name}.stderr"
        self._faults = base / f"{name}.faults" if breakable else None
        self._broken: dict[str, str] = {}
        self._node_id = ""

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_breakable(self) -> bool:
        return self._faults is not None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def node_id(self) -> str:
        if not self._node_id:  # asked for once, for it may be frozen the next time
            self._node_id = str(self.client.status()["node_id"])
        return self._node_id

    # --- life ----------------------------------------------------------------------------------------------------
    def launch(self) -> None:
        """Begin to start it; `ready` waits until it is up."""
        assert not self.is_running
        self._have_port()
        with self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                self._command("start", "--name", self.name, "--listen", "127.0.0.1", "--json"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(self._faults),
                cwd=ROOT,
                start_new_session=True,  # a Ctrl-C at the tests is theirs to hand on
            )

    def _have_port(self) -> None:
        """A port of its own, where it remembers none: nodes that start at once, each of which draws one by lot and
        needs it a second later, draw the same one time in many."""
        path = self.home / "settings.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if "listen" not in known:
            self.home.mkdir(mode=0o700, exist_ok=True)
            path.write_text(json.dumps({**known, "listen": f"/ip4/127.0.0.1/tcp/{next(_ports)}"}))

    def ready(self) -> "RealNode":
        assert self.process is not None
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_DEADLINE_S)
        line = self.process.stdout.readline() if readable else b""
        assert line, f"{self.name} did not start: {self.stderr()}"
        assert json.loads(line)["name"] == self.name
        return self

    def start(self) -> "RealNode":
        self.launch()
        return self.ready()

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end of the process. Gives the seconds that it took."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.send_signal(number)
        self.exit_code = self.process.wait(WAIT_DEADLINE_S)
        seconds = time.monotonic() - begun
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return seconds

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process where it stands: to the others its sockets stay open, and nothing comes from them."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def break_link(self, other: "RealNode", mode: str) -> None:
        """Break the link to another breakable node, at both ends, as node.network.libp2p.faults has it."""
        self._set_fault(other, mode)
        if mode in OTHER_END:
            other._set_fault(self, OTHER_END[mode])

    def mend_link(self, other: "RealNode") -> None:
        self._set_fault(other, "")
        other._set_fault(self, "")

    def _set_fault(self, other: "RealNode", mode: str) -> None:
        assert self._faults is not None
        self._broken[other.node_id] = mode
        draft = self._faults.with_suffix(".draft")
        faults = [{"peer": peer, "mode": mode} for peer, mode in self._broken.items() if mode]
        draft.write_text(json.dumps(faults))
        draft.rename(self._faults)

    def stderr(self) -> str:
        """The end of what it printed, its log included."""
        return self._stderr.read_text()[-STDERR_CHARACTERS_SHOWN:]

    def broken_lines(self) -> list[str]:
        """What its log says around the first traceback of fednode's own; a task's stands behind time and run."""
        lines = (self.home / "node.log").read_text().splitlines()
        at = next((number for number, line in enumerate(lines) if line.startswith("Traceback")), None)
        return [] if at is None else lines[max(0, at - LINES_SHOWN) : at + LINES_SHOWN]

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    # --- asking it -----------------------------------------------------------------------------------------------
    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "node", *arguments, "--home", str(self.home)]

    def cli(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command for this node. It may fail; look at the answer's returncode."""
        return subprocess.run(
            self._command(*arguments),
            capture_output=True,
            input=stdin,
            text=True,
            env=_environment(),
            cwd=ROOT,
            timeout=COMMAND_DEADLINE_S,
            check=False,
        )

    def told(self, *arguments: str) -> Any:
        """What a command that must succeed says in JSON."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *arguments: str) -> tuple[int, Json]:
        """Exit code and error of a command that must fail."""
        done = self.cli(*arguments, "--json")
        assert done.returncode != 0, done.stdout
        return done.returncode, json.loads(done.stderr.splitlines()[-1])["error"]

    def wait_for_run(
        self, run: str, condition: Callable[[Json], object], what: str, within_s: float = WAIT_DEADLINE_S
    ) -> Json:
        """The run, by its id, as the event stream shows it once `condition` holds."""
        deadline, seen = time.monotonic() + within_s, None
        for event in self.client.events():  # says something every 5 seconds at the latest
            for shown in [*event.get("runs", ()), *([event["run"]] if "run" in event else ())]:
                if shown["run_id"] == run:
                    seen = shown
            if seen is not None and condition(seen):
                return seen
            assert time.monotonic() < deadline, f"{what} on {self.name}: not within {within_s:.0f} s, but {seen}"
        raise AssertionError(f"{self.name} stopped while we waited for: {what}")

    def wait_for_round(self, run: str, round_number: int, within_s: float = WAIT_DEADLINE_S) -> Json:
        return self.wait_for_run(run, lambda seen: seen["round"] >= round_number, f"round {round_number}", within_s)

    def wait_for_end(self, run: str, within_s: float = WAIT_DEADLINE_S) -> Json:
        return self.wait_for_run(run, lambda seen: seen["state"] in ENDED, "the run's end", within_s)

    def logs(self, run: str) -> list[str]:
        """The messages of `fednode run logs`, which gives JSON line by line."""
        done = self.cli("run", "logs", run, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["message"] for line in done.stdout.splitlines()]

    def participant(self, run: str, node_id: str) -> Json:
        found = [entry for entry in self.client.run(run)["participants"] if entry["node_id"] == node_id]
        return dict(found[0]) if found else {}

    def state_in(self, seen: Json) -> str:
        """This node's state as a participant, in anybody's view of a run."""
        return next((str(entry["state"]) for entry in seen["participants"] if entry["name"] == self.name), "")

    def committed(self, run: str) -> dict[int, tuple[str, str]]:
        """Checkpoint and model of every round that this node knows to be committed."""
        return {row["round"]: (row["checkpoint"], row["model"]) for row in self.client.rounds(run)["rounds"]}

    def connected_to(self) -> set[str]:
        return {peer["name"] for peer in self.client.peers()["peers"] if peer["connected"] and not peer["self"]}


def _environment(faults: Path | None = None) -> dict[str, str]:
    """Ours without what would name another home or break links, and with the file that may break this node's."""
    ours = {key: value for key, value in os.environ.items() if key not in ("FEDNODE_HOME", "FEDNODE_FAULTS")}
    return ours if faults is None else {**ours, "FEDNODE_FAULTS": str(faults)}
