"""What a worker took of the machine during a call, told by itself: the node looks only now and then, and a call may be
short.
"""

import resource
import sys
import time
from typing import Any

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # in what the system counts a process's largest size


class UsageMeter:
    """From its making to `usage`."""

    def __init__(self) -> None:
        self._began, self._cpu_s = time.perf_counter(), _cpu_s()

    def usage(self) -> dict[str, float]:
        """By the keys of node.system.names: the mean share of a core, and the most memory that it ever had."""
        seconds = max(time.perf_counter() - self._began, 1e-6)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
        usage = {"cpu_percent": 100 * (_cpu_s() - self._cpu_s) / seconds, "memory_bytes": float(memory)}
        if (gpu_memory := _gpu_memory_bytes()) > 0:
            usage["gpu_memory_bytes"] = gpu_memory
        return usage


def _cpu_s() -> float:
    """Of this process, and of those that it started and that have ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _gpu_memory_bytes() -> float:
    """The most that torch's tensors took on all GPUs, where the task uses any."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    return float(sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())))
