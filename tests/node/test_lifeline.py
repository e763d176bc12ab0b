"""Processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from node.demo.processes import Children, lines_of

ROOT = Path(__file__).parents[2]
END_DEADLINE_S = 20.0
FOLLOWER = """
import signal, sys, threading
from node.lifeline import end_with
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
end_with(int(sys.argv[1]), 0.05)
print("up", flush=True)
threading.Event().wait()
"""
# Starts a follower, and is killed.
LEADER = f"""
import os, subprocess, sys, threading
ours, theirs = os.pipe()
subprocess.Popen([sys.executable, "-c", {FOLLOWER!r}, str(ours), ""], pass_fds=[ours])
threading.Event().wait()
"""

pytestmark = pytest.mark.real


def follower(descriptor: int, kind: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FOLLOWER, str(descriptor), kind]
    process = subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize(("kind", "status"), [("", -signal.SIGTERM), ("deaf", 1)])
def test_a_closed_pipe_ends_its_reader_and_by_force_where_it_does_not_listen(kind, status):
    ours, theirs = os.pipe()
    process = follower(ours, kind)
    os.close(theirs)
    with process:
        assert process.wait(END_DEADLINE_S) == status
    os.close(ours)


def test_a_killed_leader_takes_its_follower_along():
    leader = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, cwd=ROOT)
    with leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"up\n"
        leader.kill()
        assert leader.stdout.read() == b""  # the end of its output comes when the follower, who has it too, has ended


@pytest.mark.parametrize("by_force", [False, True])
def test_children_end_together(tmp_path, by_force):
    async def main() -> list[int | None]:
        children, processes = Children(), []
        for kind in ("", "deaf"):
            arguments = ["-c", FOLLOWER, str(children.lifeline), kind]
            process = await children.start(arguments, stderr=tmp_path / "stderr", pipes=True)
            assert process.stdout is not None
            async with aclosing(lines_of(process.stdout)) as lines:
                assert await anext(lines) == b"up"
            processes.append(process)
        if by_force:
            children.kill()
        await children.end()
        await children.end()
        return [process.returncode for process in processes]

    assert trio.run(main) == ([-signal.SIGKILL] * 2 if by_force else [-signal.SIGTERM, 1])
