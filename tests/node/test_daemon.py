"""The daemon as a process: its beginning, its end, and what it says, with a node in memory behind its API."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fednode import Client, NodeNotRunning
from node.detach import start_detached
from node.home.home import FIRST_PORT, LAST_PORT

ROOT = Path(__file__).parents[2]
END_DEADLINE_S = 30
STOP_S = 5.5  # what the daemon promises, and half a second for the machine
Start = Callable[..., "subprocess.Popen[str]"]

# Loaded by every Python of these tests before anything else: the memory node takes the real one's place.
SITECUSTOMIZE = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import memory_service, node.daemon
node.daemon.open_real_node = memory_service.open_memory_node
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {**os.environ, "PYTHONPATH": str(site), "FEDNODE_HOME": str(tmp_path / "home")}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "node", "start", "--listen", "127.0.0.1", "--name", "alpha", *arguments]
        env = {**environment, **variables}
        stderr = (tmp_path / f"stderr-{len(started)}").open("w+")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env, cwd=ROOT)
        process.stderr = stderr
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        ended(process)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, ended(process)
    return line


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Wait for the end; give the rest of standard output, and all of standard error."""
    process.wait(END_DEADLINE_S)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.seek(0)
    return process.stdout.read(), process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_starts_answers_and_stops_in_order(start: Start, home: Path, number: signal.Signals) -> None:
    process = start()
    assert first_line(process) == "Node alpha is running (fednode 0.1.0, up 1 d 2 h)\n"
    assert Client(home).status()["name"] == "alpha"
    assert stat.S_IMODE((home / "api.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "node.log").stat().st_mode) == 0o600
    begun = time.monotonic()
    process.send_signal(number)
    out, err = ended(process)
    assert time.monotonic() - begun < STOP_S
    assert process.returncode == 0
    assert "fednode group create" in out
    assert "stopped" in err
    assert (home / "closed").exists()
    assert not (home / "api.sock").exists()
    with pytest.raises(NodeNotRunning):
        Client(home).status()


def test_the_api_can_stop_it(start: Start, home: Path) -> None:
    process = start()
    first_line(process)
    assert Client(home).stop() == {}
    ended(process)
    assert process.returncode == 0
    assert (home / "closed").exists()


def test_a_second_node_on_one_home_refuses_and_names_the_first(start: Start, home: Path) -> None:
    first = start()
    first_line(first)
    second = start()
    _, err = ended(second)
    assert second.returncode == 4
    assert err.startswith("Error: ")  # and no traceback, though no log is open yet
    assert f"as process {first.pid}" in err
    assert "fednode stop" in err
    assert Client(home).status()["name"] == "alpha"  # and took nothing from it


def test_a_killed_node_leaves_nothing_in_the_way(start: Start, home: Path) -> None:
    process = start()
    first_line(process)
    process.kill()
    ended(process)
    assert (home / "api.sock").exists()
    again = start()
    first_line(again)
    assert Client(home).status()["name"] == "alpha"


def test_addresses_stay_over_restarts(start: Start, home: Path) -> None:
    listens = []
    for _ in range(2):
        process = start()
        first_line(process)
        process.terminate()
        _, err = ended(process)
        listens.append(next(line.split()[-1] for line in err.splitlines() if "opened as" in line))
    assert listens[0] == listens[1]
    host, _, port = listens[0].rpartition("/")
    assert host == "/ip4/127.0.0.1/tcp"
    assert FIRST_PORT <= int(port) <= LAST_PORT


def test_lines_of_json_for_programs(start: Start) -> None:
    process = start("--json", "--log-format", "json")
    assert json.loads(first_line(process))["name"] == "alpha"
    process.terminate()
    _, err = ended(process)
    lines = [json.loads(line) for line in err.splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


@pytest.mark.parametrize(
    ("behaviour", "code", "sentence"),
    [("refused", 1, "Error: The port is taken."), ("bug", 1, "Error: The node failed (KeyError: 'a bug').")],
)
def test_a_failed_start_says_why_without_a_traceback(
    start: Start, home: Path, behaviour: str, code: int, sentence: str
) -> None:
    process = start(MEMORY_NODE=behaviour)
    out, err = ended(process)
    assert process.returncode == code
    assert out == ""
    assert sentence in err
    assert "To fix: " in err
    assert "Traceback" not in err
    assert "Traceback" in (home / "node.log").read_text()


@pytest.mark.parametrize(
    ("mode", "content", "code", "sentence"),
    [(0o666, None, 4, "can be read by others (mode 0666)"), (0o600, "no key", 1, "node.key cannot be read")],
    ids=["mode", "damaged"],
)
def test_what_is_wrong_with_a_key_is_told_once_and_plainly(
    start: Start, home: Path, mode: int, content: str | None, code: int, sentence: str
) -> None:
    process = start()
    first_line(process)
    process.terminate()
    ended(process)
    key = home / "node.key"
    if content is not None:
        key.write_text(content)
    key.chmod(mode)
    again = start()
    out, err = ended(again)
    assert (again.returncode, out) == (code, "")
    assert err.startswith("Error: ")
    assert err.count(sentence) == 1
    assert "\nTo fix: " in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(start: Start) -> None:
    process = start("--debug", MEMORY_NODE="bug")
    _, err = ended(process)
    assert "Traceback" in err


def test_a_node_that_breaks_ends_the_process(start: Start) -> None:
    process = start(MEMORY_NODE="dies")
    _, err = ended(process)
    assert process.returncode == 1
    assert "Error: The network broke." in err


@pytest.mark.parametrize("behaviour", ["flood", "slow goodbye"])
def test_nothing_keeps_it_from_stopping(start: Start, home: Path, behaviour: str) -> None:
    """A reader that subscribes and never reads, and a node whose goodbye hangs."""
    process = start(MEMORY_NODE=behaviour)
    first_line(process)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.connect(str(home / "api.sock"))
        stuck.sendall(b"GET /v1/events HTTP/1.1\r\nHost: node\r\n\r\n")
        assert stuck.recv(10)
        begun = time.monotonic()
        process.terminate()
        ended(process)
        assert time.monotonic() - begun < STOP_S
    assert process.returncode == 0
    assert (home / "closed").exists()


# --- in the background -----------------------------------------------------------------------------------------
def fednode(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "node", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=END_DEADLINE_S, cwd=ROOT, check=False
    )


def test_detached_it_waits_until_the_node_answers(environment: dict[str, str], home: Path) -> None:
    try:
        done = fednode(environment, "start", "--detach", "--listen", "127.0.0.1", "--name", "alpha")
        assert done.returncode == 0, done.stderr
        assert "Node alpha is running" in done.stdout
        assert Client(home).status()["name"] == "alpha"
        again = fednode(environment, "start", "--detach", "--json")
        assert again.returncode == 4
        assert "A node is running" in json.loads(again.stderr)["error"]["what"]
    finally:
        stopped = fednode(environment, "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert (home / "closed").exists()
    assert "stopped" in (home / "node.log").read_text()
    assert fednode(environment, "stop").returncode == 3


def test_detached_it_says_why_it_did_not_start(environment: dict[str, str]) -> None:
    done = fednode({**environment, "MEMORY_NODE": "refused"}, "start", "--detach", "--listen", "127.0.0.1")
    assert done.returncode == 1
    assert "The port is taken" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("listen", ["foo", "80000", "65535", "127.0.0.1:99999"])
def test_where_nobody_can_listen_is_said_before_anything_starts(
    environment: dict[str, str], home: Path, listen: str
) -> None:
    for how in ((), ("--detach",)):
        done = fednode(environment, "start", "--listen", listen, *how)
        assert done.returncode == 2
        assert f"{listen!r} is no address to listen on" in done.stderr
        assert "Traceback" not in done.stderr
    assert not home.exists()


def test_what_a_process_said_before_it_ended_is_handed_on(tmp_path: Path) -> None:
    """Of a command line that will not do, it tells its standard error alone."""
    told = start_detached(tmp_path, ["--home", str(tmp_path / "no" / "home"), "--listen", "foo"])
    assert "'foo' is no address to listen on" in told["error"]["what"]
    assert told["error"]["remedy"].startswith("write PORT")
    assert told["error"]["exit"] == 2


@pytest.mark.real
def test_the_real_node_starts_keeps_its_identity_and_stops(tmp_path: Path, home: Path) -> None:
    environment = {**os.environ, "FEDNODE_HOME": str(home)}
    told = []
    for _ in range(2):
        done = fednode(environment, "start", "--detach", "--listen", "127.0.0.1", "--json")
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
        if not told[-1]["groups"]:
            assert fednode(environment, "group", "create", "study").returncode == 0
        assert fednode(environment, "stop").returncode == 0
        log = (home / "node.log").read_text()
        assert log.endswith("stopped\n"), log  # in order, and so within what it promises; else it says so
    assert told[0]["node_id"] == told[1]["node_id"]
    assert told[0]["addresses"] == told[1]["addresses"]
    assert [group["name"] for group in told[1]["groups"]] == ["study"]
    assert (home / "node.stderr").read_text() == ""
    tables = fednode(environment, "sql", "show tables", "--json")  # from the stopped node's file
    assert len(json.loads(tables.stdout)["rows"]) > 5
