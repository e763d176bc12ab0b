"""Starting and ending a worker process: what it inherits (nearly nothing), and that none of it outlives the node.

A worker gets one end of a socket pair, pipes for what it prints, a directory of its own and a scrubbed environment. It
leads a session of its own, so that one signal ends whatever it started too.
"""

import fcntl
import os
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import trio

import node
from node.training.worker_output import PIPE_BYTES
from node.training.worker_watch import LESS_MEMORY

# What programs need to find libraries, languages and accelerators. Everything else, such as tokens, stays here.
KEPT_VARIABLES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_")
EXIT_POLL_S = 0.1  # where the system cannot wake us: soon enough, and cheap
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def worker_environment(inherited: Mapping[str, str], directory: Path, threads: int) -> dict[str, str]:
    """The environment of a worker at home in `directory`."""
    kept = {k: v for k, v in inherited.items() if k in KEPT_VARIABLES or k.startswith(KEPT_PREFIXES)}
    return kept | {
        "HOME": str(directory),  # so that no library finds somebody's credentials there
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONPATH": str(Path(node.__file__).parent.parent),
        "PYTHONUNBUFFERED": "1",  # a killed worker's last words are not lost
        "PYTHONHASHSEED": "0",  # the same order of sets in every worker
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # torch's deterministic algorithms ask for it
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
    }


class WorkerProcess:
    """A running worker. `link` carries frames; `stdout` and `stderr` are what it and its children print."""

    def __init__(self, directory: Path, threads: int, beat_s: float) -> None:
        """Start it; it will give a sign of life every `beat_s`. Raises OSError when no process can be had."""
        ours, theirs = socket.socketpair()
        out_read, out_write = _wide_pipe()
        err_read, err_write = _wide_pipe()
        try:
            # Not trio.lowlevel.open_process, which forks from a helper thread: Linux counts the forking thread as the
            # parent, and the worker, which asks to be killed with its parent, died when that thread retired.
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "node.training.worker", *map(str, (theirs.fileno(), os.getpid(), beat_s))],
                stdin=subprocess.DEVNULL,
                stdout=out_write,
                stderr=err_write,
                pass_fds=[theirs.fileno()],
                cwd=directory,
                env=worker_environment(os.environ, directory, threads),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(out_read)
            os.close(err_read)
            raise
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)
        self.pid = self._popen.pid
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        ours.setblocking(False)
        self.link = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.stdout = trio.lowlevel.FdStream(out_read)
        self.stderr = trio.lowlevel.FdStream(err_read)

    async def ended(self) -> int:
        """Wait for its end, end what it started, and give its exit status as subprocess does. One waiter only."""
        if self._popen.returncode is None:
            if self._pidfd is not None:
                await trio.lowlevel.wait_readable(self._pidfd)
            else:  # no Linux; WNOWAIT leaves its number taken until its children are ended too
                while not self._is_over():
                    await trio.sleep(EXIT_POLL_S)
        self.kill()
        return self._popen.wait()

    def _is_over(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def kill(self) -> None:
        """End it and all that it started, at once. Does no harm when they have ended."""
        if self._popen.returncode is not None:  # once reaped, its number may be somebody else's
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill it, wait until it is gone, and close everything."""
        with trio.CancelScope(shield=True):
            self.kill()
            await self.ended()
            for stream in (self.link, self.stdout, self.stderr):
                await trio.aclose_forcefully(stream)
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _wide_pipe() -> tuple[int, int]:
    """A pipe that holds PIPE_BYTES, where the system lets it: a flood is then read in few large pieces."""
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # the user's pipes may have used up what they are allowed
            fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write


def describe_end(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended by itself with status {status}"
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        return f"was killed ({name}), as the system does to what takes too much memory"
    return f"crashed ({name})"


def remedy_for_end(status: int) -> str:
    if status == -signal.SIGKILL:
        return LESS_MEMORY
    return "see its last words in fednode run logs, and mend the task"
