"""Kills what tests leave behind, however they end: `python tests/sweeper.py VARIABLE VALUE` waits until its standard
input ends, which it does when the tests are killed too, then kills every process with that VALUE in its environment.
"""

import os
import sys

import psutil

ROUNDS_MAX = 20  # of a second at most; what outlives them cannot be killed


def is_marked(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(variable) == value
    except psutil.Error:
        return False  # it has ended, or is somebody else's


def main(variable: str, value: str) -> None:
    sys.stdin.read()
    for _ in range(ROUNDS_MAX):  # who is about to be killed may start another meanwhile
        found = [process for process in psutil.process_iter() if is_marked(process, variable, value)]
        if not found:
            return
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
