"""NVIDIA's GPUs as its management library tells of them. The package is optional (fednode[gpu]); without it, or without
a driver, there are none, and nothing else is different.
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

log = logging.getLogger("fednode.system")

_MILLIWATTS = 1000
Reading = tuple[str, str, float]  # key, device, value


class Gpus:
    """Those of this machine, by number. `nvml` is the module pynvml, or what does the same; None: no GPUs."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._handles: list[Any] = []
        if nvml is None:
            return
        try:
            nvml.nvmlInit()
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:  # no driver, or one that this library does not know
            log.info("no GPU is measured: %s", error)

    def readings(self) -> Iterator[Reading]:
        """What can be read now. What a GPU does not tell, and one that has gone, is left out."""
        for number, handle in enumerate(self._handles):
            for read in (_utilization, _memory, _power, _temperature):
                with suppress(self._nvml.NVMLError):
                    for key, value in read(self._nvml, handle):
                        yield key, str(number), value


def find_gpus(load: Callable[[str], Any] = importlib.import_module) -> Gpus:
    """Those that can be measured here. `load` finds the module."""
    try:
        return Gpus(load("pynvml"))
    except ImportError:
        return Gpus(None)


def _utilization(nvml: Any, handle: Any) -> list[tuple[str, float]]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return [("gpu_percent", float(rates.gpu)), ("gpu_memory_access_percent", float(rates.memory))]


def _memory(nvml: Any, handle: Any) -> list[tuple[str, float]]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    share = 100 * memory.used / max(1, memory.total)
    return [("gpu_memory_used_bytes", float(memory.used)), ("gpu_memory_percent", share)]


def _power(nvml: Any, handle: Any) -> list[tuple[str, float]]:
    drawn, limit = nvml.nvmlDeviceGetPowerUsage(handle), nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
    return [("gpu_watts", drawn / _MILLIWATTS), ("gpu_power_percent", 100 * drawn / max(1, limit))]


def _temperature(nvml: Any, handle: Any) -> list[tuple[str, float]]:
    return [("gpu_celsius", float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))]
