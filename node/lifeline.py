"""Processes that end with the one that started them, however that ends: a pipe whose other end only it holds.

The kernel closes a process's end of a pipe when it ends, killed ones too, on every system, and no thread's or group's
fate comes into it. Whoever reads sees the end of the pipe and ends itself in order.
"""

import os
import signal
import threading
import time
from contextlib import suppress


def end_with(descriptor: int, grace_s: float) -> None:
    """From now on send this process SIGTERM when the pipe at `descriptor` ends, and end it by force `grace_s` later.

    Nobody may write to the pipe, and the process to end with must hold its only writing end.
    """
    threading.Thread(target=_wait, args=(descriptor, grace_s), name="lifeline", daemon=True).start()


def _wait(descriptor: int, grace_s: float) -> None:
    with suppress(OSError):  # no such descriptor: nobody holds us
        while os.read(descriptor, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(1)  # it hangs; its workers end with it, as they do when it is killed
