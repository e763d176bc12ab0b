"""What this machine has to give, measured when somebody is told."""

import os
from pathlib import Path

import psutil

from protocol.group.presence import Capacity


def measure_capacity(home: Path) -> Capacity:
    """Cores, memory, free disk where the home lies, load. GPUs as far as the driver's files name them."""
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(home))
    return Capacity(
        cpu_cores=os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        disk_free_bytes=disk.free,
        gpus=_gpus(),
        load_1m=round(psutil.getloadavg()[0], 2),
    )


def _gpus() -> tuple[str, ...]:
    """The names of NVIDIA's GPUs: its driver has a file for each, which costs nothing to read."""
    names = []
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = information.read_text().splitlines()
        except OSError:
            continue
        names += [line.split(":", 1)[1].strip()[:80] for line in lines if line.startswith("Model:")]
    return tuple(names[:16])
