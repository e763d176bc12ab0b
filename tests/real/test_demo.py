"""The demo as people run it: real nodes, real workers, real data; and nothing of it left behind, whatever happens."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "fednode", "demo"]
END_DEADLINE_S = 30.0  # from a signal to the end of everything; a node allows itself 5 s, on a quiet machine
DEMO_DEADLINE_S = 120.0

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "t").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "t"), "PYTHONUNBUFFERED": "1"}


def told_by(environment: dict[str, str], *arguments: str) -> tuple[dict[str, Any], str]:
    """Run the demo to its end: the last line of its output, and what it said meanwhile."""
    done = subprocess.run(
        [*DEMO, "--json", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=DEMO_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told, done.stderr


def test_three_nodes_train_two_rounds_and_their_homes_stay_when_asked(environment, tmp_path):
    kept = tmp_path / "kept"
    told, said = told_by(environment, "--nodes", "3", "--rounds", "2", "--keep", str(kept))
    assert told["nodes"] == 3
    assert told["rounds_committed"] == 2
    assert len(told["run"]) == 64
    assert told["elections"] >= 1
    assert told["aggregator"] in {"node-0", "node-1", "node-2"}
    assert 0.2 < told["accuracy_first"] < told["accuracy_final"] < 1
    assert told["accuracy_alone"] < told["accuracy_final"]
    assert told["accuracy_alone"] < told["accuracy_pooled"]
    assert told["homes"] == [str(kept / f"node-{number}") for number in range(3)]
    for home in map(Path, told["homes"]):
        assert (home / "record.duckdb").exists()
        assert (home / "node.key").stat().st_mode & 0o077 == 0
        assert not (home / "api.sock").exists()
    assert "round 2 of 2" in said
    assert "points" in said
    assert f"fednode tui --home {kept}/node-0" in said


def test_no_rounds_start_and_stop_everything(environment, tmp_path):
    told, said = told_by(environment, "--nodes", "2", "--rounds", "0")
    assert (told["run"], told["rounds_committed"], told["accuracy_final"], told["elections"]) == (None, 0, None, 0)
    assert "1 joined" in said
    assert not any(Path(home).exists() for home in told["homes"])
    assert not list((tmp_path / "t").iterdir())


def test_a_folder_with_something_in_it_is_left_alone(environment, tmp_path):
    (tmp_path / "full" / "of").mkdir(parents=True)
    done = subprocess.run(
        [*DEMO, "--keep", str(tmp_path / "full")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 4
    assert "There is something in" in done.stderr


# --- whatever happens ------------------------------------------------------------------------------------------
def read_until(process: "subprocess.Popen[str]", words: str) -> None:
    """Read what the demo says up to the line with these words."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return
    pytest.fail("".join(said))


@contextmanager
def running_demo(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A demo in the middle of its training, in a session of its own."""
    process = subprocess.Popen(
        [*DEMO, "--nodes", "3", "--rounds", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            read_until(process, "round 2 of")
            yield process
        finally:
            process.kill()


def watched(process: "subprocess.Popen[str]") -> dict[int, list[str]]:
    """Every process below the demo's: a descriptor that becomes readable at its end, and its command."""
    family = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            family[os.pidfd_open(child.pid)] = child.cmdline()
    return family


def left_of(family: dict[int, list[str]]) -> list[list[str]]:
    """The commands of those that have not ended within END_DEADLINE_S each."""
    left = []
    for descriptor, command in family.items():
        readable, _, _ = select.select([descriptor], [], [], END_DEADLINE_S)
        os.close(descriptor)
        left += [] if readable else [command]
    return left


def count_of(family: dict[int, list[str]], module: str) -> int:
    return sum(module in command for command in family.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_stays_behind(environment, tmp_path, number):
    with running_demo(environment) as process:
        family = watched(process)
        assert (count_of(family, "start"), count_of(family, "node.training.worker")) == (3, 3)
        process.send_signal(number)
        process.wait(END_DEADLINE_S)
        assert left_of(family) == []
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 128 + number
            assert process.stdout is not None
            assert "Interrupted. Every process of the demo has ended" in process.stdout.read()
            assert not list((tmp_path / "t").iterdir())


@pytest.mark.slow
def test_a_killed_node_does_not_end_the_demo(environment):
    with running_demo(environment) as process:
        family = psutil.Process(process.pid).children()
        last = next(child for child in family if "node-2" in child.cmdline())
        last.kill()
        read_until(process, "node-2 has ended; the others go on")
        read_until(process, "of the held-out digits right")
        read_until(process, "of the held-out digits right")
        process.send_signal(signal.SIGINT)
        process.wait(END_DEADLINE_S)
        assert process.returncode == 128 + signal.SIGINT


@pytest.mark.slow
def test_together_is_far_better_than_alone_and_nearly_as_good_as_pooled(environment):
    told, _ = told_by(environment)
    assert told["accuracy_final"] >= told["accuracy_alone"] + 0.10
    assert told["accuracy_final"] >= told["accuracy_pooled"] - 0.04
    assert told["seconds"] < 90
