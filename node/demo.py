"""`fednode demo`: real nodes on this machine form a group, train one model together on real digits, and stop.

Everything is asked of the nodes through their local API, as anybody could. What they are compared with is computed
meanwhile by a process of its own (node.demo_scores); how none of the processes stays behind is in node.demo_processes.
"""

import json as json_text
import os
import resource
import shutil
import signal
import tempfile
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import trio

from fednode_client import ClientError
from node.cli.show import size
from node.demo_processes import Children, DemoNode, free_ports, lines_of, start_node
from node.demo_screen import Screen, standard_stream, steps_to_look_further
from node.demo_words import RUN, Curves, Outcome, configuration, outcome_of, people
from protocol.errors import FednodeError, Refused

POLL_S = 0.3  # rounds take about as long, and asking costs the node a query
STALL_S = 120.0  # nothing new of a run for so long: something is wrong, and a person should not wait for it
POLICY = ("mine", "task:digits")
HELD_OUT_ALONE = 128  # what a shell adds to a signal's number


def run_demo(*, nodes: int, rounds: int, keep: Path | None, json: bool) -> int:
    """Play the demo, and give the exit code. No process of it is left when this returns, nor if this process is killed.

    The nodes' homes lie in a new folder, `keep` or a temporary one that is removed in the end; where the demo failed it
    stays, for its logs. Raises FednodeError, and Refused when `keep` has something in it.
    """
    folder = _folder(keep)
    demo = _Demo(nodes, rounds, folder, keep, Screen(standard_stream(json)))
    try:
        trio.run(demo.run)
    except BaseExceptionGroup as group:
        raise _told(_first(group), folder) from group
    if demo.interrupted:
        return HELD_OUT_ALONE + demo.interrupted
    if json:
        print(json_text.dumps(demo.outcome.plain()))  # noqa: T201
    return 0
