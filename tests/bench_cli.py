"""What the command line costs before it does anything: CPU seconds of `fednode --help`, start-up included."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 5


def figures() -> dict[str, float]:
    """help_cpu_s: the least of several runs, after one that fills the caches."""
    return {"help_cpu_s": round(min([_help_cpu_s() for _ in range(REPEATS + 1)][1:]), 3)}


def _help_cpu_s() -> float:
    script = Path(sys.executable).with_name("fednode")  # as installed, else from the tree
    command = [str(script)] if script.exists() else [sys.executable, "-m", "node"]
    child = subprocess.Popen([*command, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{command} --help ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
