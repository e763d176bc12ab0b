"""Real nodes for tests: processes with homes of their own on 127.0.0.1, and waits that end with a word.

Every wait has a deadline and says what was last seen. What a node prints goes into a file beside its home.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fednode import Client, NodeNotRunning

ROOT = Path(__file__).parents[2]
START_DEADLINE_S = 60.0  # alone a node is up in 2.5 s; the tests' machines are never alone
WAIT_DEADLINE_S = 40.0
COMMAND_DEADLINE_S = 60.0
POLL_S = 0.05
STDERR_CHARACTERS_SHOWN = 4000
ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})

Json = dict[str, Any]
T = TypeVar("T")


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
        return str(self.client.status()["node_id"])

    # --- life ----------------------------------------------------------------------------------------------------
    def launch(self) -> None:
        """Begin to start it; `ready` waits until it is up."""
        assert not self.is_running
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

    def break_links(self, modes: dict[str, str]) -> None:
        """Have this breakable node's links be broken so, by peer id (node.libp2p_faults); all others are whole."""
        assert self._faults is not None
        draft = self._faults.with_suffix(".draft")
        draft.write_text(json.dumps([{"peer": peer, "mode": mode} for peer, mode in modes.items()]))
        draft.rename(self._faults)

    def stderr(self) -> str:
        """The end of what it printed, its log included."""
        return self._stderr.read_text()[-STDERR_CHARACTERS_SHOWN:]

    def broken_lines(self) -> list[str]:
        """Where its log has a traceback of fednode's own; a task's stands behind the time and the run."""
        lines = (self.home / "node.log").read_text().splitlines()
        return [line for before, line in pairwise(lines) if line.startswith("Traceback") for line in (before, line)]

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


# --- many nodes ------------------------------------------------------------------------------------------------
def start_all(nodes: Iterable[RealNode]) -> None:
    """Start them at once."""
    launched = [node for node in nodes if not node.is_running]
    for node in launched:
        node.launch()
    for node in launched:
        node.ready()


def wait_until_connected(nodes: list[RealNode]) -> None:
    names = {node.name for node in nodes}
    for node in nodes:
        wait_until(lambda node=node: node.connected_to() >= names - {node.name}, f"{node.name} meets all")


@contextmanager
def real_nodes(base: Path, *names: str, breakable: bool = False) -> Iterator[list[RealNode]]:
    """Running nodes, which end with the context; none of their processes may outlive it, and no stranger's byte may
    have reached a handler."""
    nodes = [RealNode(base, name, breakable=breakable) for name in names]
    try:
        start_all(nodes)
        yield nodes
        for node in nodes:
            if node.is_running:
                assert node.client.status()["stranger_bytes"] == 0
                assert node.end() < 5.5, f"{node.name} stopped too slowly"
                assert node.exit_code == 0, node.stderr()
            assert not node.broken_lines(), node.broken_lines()
        wait_until(lambda: not processes_of(base), "all processes end")
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()


def processes_of(base: Path) -> list[psutil.Process]:
    """Every process that lives for a node below `base`: nodes have it in their command line, workers work there."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(base) in f"{process.cmdline()} {process.cwd()}" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def check_nothing_stays_behind(base: Path, nodes: Iterable[RealNode]) -> None:
    """Between tests there are the running nodes, and no worker: all runs have ended."""
    ours = {node.pid for node in nodes if node.is_running}
    wait_until(
        lambda: {process.pid for process in processes_of(base)} <= ours, "only the nodes themselves are left", 10
    )


# --- a group that trains ---------------------------------------------------------------------------------------
MEAN_TASK = Path(__file__).parent / "mean_task.py"
DIGITS = '[task]\nname = "digits"\n'
# Training that takes a moment leaves time to do something in a round.
MEAN = f'[task]\npath = "{MEAN_TASK}"\n[task.parameters]\npause_s = {{pause_s}}\n'
CONFIGURATION = """
name = "{name}"
seed = 7
{task}
[data]
name = "{data}"
[training]
rounds = {rounds}
[roster]
nodes_min = {nodes}
{timing}
"""
QUICK = "[timing]\nheartbeat_s = 0.3\nelection_timeout_s = 1.5\nrank_step_s = 0.3\nlost_after_s = 3\n"
ENDLESS = 100_000  # rounds of a run that the test will stop


class Study:
    """Nodes of one group that all have digits of their own and accept every run."""

    def __init__(self, nodes: list[RealNode], base: Path) -> None:
        self.nodes = nodes
        self.base = base
        self._runs = 0
        self._knows_task = False

    def form(self) -> None:
        """The first creates the group, the others join; everybody gets a data set and a policy."""
        from node.shares import digits_split

        first, *others = self.nodes
        paths = digits_split(len(self.nodes), seed=7).write(self.base / "digits")
        first.client.create_group("study")
        token = first.client.invite(uses=len(self.nodes))["token"]
        for node in others:
            node.client.join(token)
        for node, path in zip(self.nodes, paths, strict=True):
            node.client.add_data("digits", path)
            node.client.set_policy(["all"])
        wait_until_connected(self.nodes)

    def propose(
        self,
        by: RealNode,
        rounds: int = ENDLESS,
        task: str = "",
        *,
        pause_s: float = 0.05,
        data: str = "digits",
        timing: str = QUICK,
    ) -> str:
        """Propose a run that needs all of the nodes, of the task in mean_task.py if not told otherwise; its id."""
        self._runs += 1
        config = CONFIGURATION.format(
            name=f"run-{self._runs}",
            task=task or MEAN.format(pause_s=pause_s),
            data=data,
            rounds=rounds,
            nodes=len(self.nodes),
            timing=timing,
        )
        run = str(by.client.start_run(config)["run_id"])
        if not task:
            self._have_task_accepted(by, run)
        return run

    def _have_task_accepted(self, by: RealNode, run: str) -> None:
        """The first time each owner must say where the task's file is; from then on their node knows it."""
        if not self._knows_task:
            for node in self.nodes:
                if node is not by:
                    node.wait_for_run(run, lambda seen: seen["decision"] == "declined", "the want of the file")
                    node.client.accept(run, task=MEAN_TASK)
            self._knows_task = True

    def heal(self) -> None:
        """Thaw who is frozen, start who is not running, make whole all links that can be broken."""
        for node in self.nodes:
            if node.is_running:
                node.thaw()
            if node.is_breakable:
                node.break_links({})
        start_all(self.nodes)
        wait_until_connected(self.nodes)

    def clear(self) -> None:
        """Stop what a failed test has left going on."""
        for node in self.nodes:
            mine = [run for run in node.client.runs()["runs"] if run["proposer_name"] == node.name]
            for run in mine:
                if run["state"] not in ENDED:
                    node.client.stop_run(run["run_id"], "the test has failed")
                    self.all_end(run["run_id"])

    def aggregator_of(self, run: str) -> RealNode:
        ids = {node.node_id: node for node in self.nodes if node.is_running}

        def reigning() -> RealNode | None:
            views = [node.client.run(run)["aggregator"] for node in ids.values()]
            return ids.get(views[0]) if len(set(views)) == 1 else None

        return wait_until(reigning, "all agree on the aggregator")

    def all_end(self, run: str) -> list[Json]:
        return [node.wait_for_end(run) for node in self.nodes if node.is_running]

    def check_same_commits(self, run: str) -> dict[int, tuple[str, str]]:
        """No two running nodes hold different checkpoints of one round, and all have the same newest model. Gives what
        they hold together; one who was away holds less."""
        nodes = [node for node in self.nodes if node.is_running]
        together: dict[int, tuple[str, str]] = {}
        for node in nodes:
            commits = node.committed(run)
            assert commits == {**commits, **{key: together[key] for key in commits.keys() & together.keys()}}
            together |= commits
        newest = {b"".join(node.client.model(run)) for node in nodes}
        assert len(newest) == 1
        return together

    def takes_part(self, node: RealNode, run: str) -> bool:
        """Whether the newest round that another running node knows of has an update of every node."""
        other = next(other for other in self.nodes if other.is_running and other is not node)
        return bool(other.client.rounds(run)["rounds"][-1]["updates_used"] == len(self.nodes))


def is_gone(node: RealNode) -> bool:
    try:
        node.client.status()
    except NodeNotRunning:
        return True
    return False
