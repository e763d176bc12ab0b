"""Starting a node in the background: a process of its own session that outlives the terminal.

We wait until it answers or gives up, and hand on what it says. Light on imports, for the command line.
"""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START_DEADLINE_S = 60.0  # importing the libraries takes 2 s on a quiet machine, and machines are not always quiet
ANSWER_BYTES_MAX = 256 * 1024
STDERR = "node.stderr"  # what dies without a word in the log, dies with one here


def start_detached(home: Path, arguments: Sequence[str], passphrase: str | None = None) -> dict[str, Any]:
    """Start `fednode start` with `arguments` in the background; give {"status": …} or {"error": …} as it says.

    The passphrase goes through a pipe: arguments and environments can be read from outside.

    A process that says nothing for START_DEADLINE_S is ended.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours, theirs = os.pipe()
    handed = _pipe_with(passphrase) if passphrase is not None else None
    told_of = () if handed is None else ("--passphrase-fd", str(handed))
    try:
        descriptor = os.open(home / STDERR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "node", "start", "--ready-fd", str(theirs), *told_of, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(theirs,) if handed is None else (theirs, handed),
                cwd="/",  # no folder is kept busy
                env={**os.environ, "PYTHONPATH": search_path()},
                start_new_session=True,
            )
    finally:
        os.close(theirs)
        if handed is not None:
            os.close(handed)
    try:
        answer = _read_line(ours, time.monotonic() + START_DEADLINE_S)
        what = "ended before it was up"
    except TimeoutError:
        answer, what = b"", f"was not up within {START_DEADLINE_S:.0f} s"
        process.kill()
    finally:
        os.close(ours)
    if answer:
        told: dict[str, Any] = json.loads(answer)
        return told
    code = process.wait()  # it closed its end, or was killed: it ends now
    error = _last_words(home / STDERR) or {
        "code": "not-started",
        "what": f"The node {what}",
        "remedy": f"see node.log and {STDERR} in {home}, or start it without --detach",
    }
    return {"error": {**error, "exit": code if code > 0 else 1}}


def _last_words(path: Path) -> dict[str, Any] | None:
    """What the process said was wrong, before it had anybody to tell: as a command line does, or None."""
    with contextlib.suppress(OSError), path.open(errors="replace") as opened:
        said = re.search(r"^Error: (.+?)\.?\n(?:To fix: (.+?)\.?\n)?", opened.read(ANSWER_BYTES_MAX), re.MULTILINE)
        if said is not None:
            remedy = said[2] or "see fednode start --help"
            return {"code": "not-started", "what": said[1], "remedy": remedy}
    return None


def _pipe_with(words: str) -> int:
    """The reading end of a pipe that holds `words` and nothing more; a pipe has room for far longer ones."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(words.encode())
    return reading


def search_path() -> str:
    """PYTHONPATH for a process of ours: the same fednode, also where it was never installed."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))


def _read_line(descriptor: int, deadline: float) -> bytes:
    """Up to the end of the line; nothing when the other end is closed before it. Raises TimeoutError."""
    line = b""
    while not line.endswith(b"\n") and len(line) < ANSWER_BYTES_MAX:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        piece = os.read(descriptor, 65_536)
        if not piece:
            return b""
        line += piece
    return line
