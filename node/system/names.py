"""What is measured of machines and processes: our keys with their units, and what FedML and MLflow call the same.

Stored are bytes, percent, watts, degrees Celsius and counts; other programs' units are made from them on the way out.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

INTERVAL_S = 10.0  # between samples, as in FedML and MLflow
INTERVAL_KEY = "system_interval_s"  # what people call it, in settings.json
MEBIBYTE, MEGABYTE = 2**20, 10**6  # FedML divides by the one, MLflow by the other
MLFLOW_PREFIX = "system/"
_UNITS = {"percent": "percent", "bytes": "bytes", "watts": "watts", "celsius": "celsius"}


@dataclass(frozen=True, slots=True)
class SystemKey:
    """One thing that is measured.

    `fedml` and `mlflow` are its names there, "" where they have none; a name with {device} has one for each device, and
    FedML takes the mean over the devices. Values are divided by `fedml_unit` and `mlflow_unit`. Where two keys have
    one name, their values are added. `is_counter`: it counts up since the node started.
    """

    scope: str
    key: str
    what: str
    fedml: str = ""
    mlflow: str = ""
    fedml_unit: int = MEBIBYTE
    is_counter: bool = False

    @property
    def unit(self) -> str:
        return unit_of(self.key)

    @property
    def mlflow_unit(self) -> int:
        return MEGABYTE if self.unit == "bytes" else 1

    @property
    def prometheus(self) -> str:
        return f"fednode_{self.scope}_{self.key}"


def _host(key: str, what: str, fedml: str = "", mlflow: str = "", **more: Any) -> SystemKey:
    return SystemKey("host", key, what, fedml, mlflow, **more)


SYSTEM_KEYS: tuple[SystemKey, ...] = (
    _host("cpu_percent", "of all cores", "cpu_utilization", "cpu_utilization_percentage"),
    _host("memory_used_bytes", "memory in use", mlflow="system_memory_usage_megabytes"),
    _host("memory_available_bytes", "memory that programs can have", "process_memory_available"),
    _host(
        "memory_percent", "memory that programs cannot have", "SystemMemoryUtilization",
        "system_memory_usage_percentage"
    ),
    _host("disk_used_bytes", "of the disk where the home lies", mlflow="disk_usage_megabytes"),
    _host("disk_free_bytes", "of the same, that is left", mlflow="disk_available_megabytes"),
    _host("disk_percent", "of the same, in use", "disk_utilization", "disk_usage_percentage"),
    _host("disk_read_bytes", "read from all disks", is_counter=True),
    _host("disk_written_bytes", "written to all disks", is_counter=True),
    _host(
        "network_sent_bytes", "sent, all programs", "network_traffic", "network_transmit_megabytes",
        fedml_unit=1, is_counter=True,
    ),
    _host(
        "network_received_bytes", "received, all programs", "network_traffic", "network_receive_megabytes",
        fedml_unit=1, is_counter=True,
    ),
    _host("gpu_percent", "time that the GPU worked", "gpu_utilization", "gpu_{device}_utilization_percentage"),
    _host("gpu_memory_used_bytes", "memory of the GPU in use", mlflow="gpu_{device}_memory_usage_megabytes"),
    _host("gpu_memory_percent", "the same", "gpu_memory_allocated", "gpu_{device}_memory_usage_percentage"),
    _host("gpu_memory_access_percent", "time that its memory was read or written", "gpu_time_spent_accessing_memory"),
    _host("gpu_watts", "what it draws", mlflow="gpu_{device}_power_usage_watts"),
    _host("gpu_power_percent", "of what it may draw", "gpu_power_usage", "gpu_{device}_power_usage_percentage"),
    _host("gpu_celsius", "how warm it is", "gpu_temp"),
    SystemKey("node", "cpu_percent", "of one core, by the node's own process"),
    SystemKey("node", "memory_bytes", "resident, of the same", "process_memory_in_use"),
    SystemKey("node", "memory_percent", "of the machine's memory", "process_memory_in_use_size"),
    SystemKey("node", "threads", "of the same", "process_cpu_threads_in_use"),
    SystemKey("node", "open_files", "files, sockets and pipes of the same"),
    SystemKey("worker", "cpu_percent", "of one core, by a run's worker and what it started"),
    SystemKey("worker", "memory_bytes", "resident, of the same; of a round, its most"),
    SystemKey("worker", "threads", "of the same"),
    SystemKey("worker", "gpu_memory_bytes", "that its tensors took on GPUs, at most"),
)  # fmt: skip
_BY_PLACE = {(entry.scope, entry.key): entry for entry in SYSTEM_KEYS}


def unit_of(key: str) -> str:
    """The unit of a key, of ours or another node's: the end of its name says it."""
    return _UNITS.get(key.rpartition("_")[2], "count")


def known_usage(usage: Mapping[str, float]) -> dict[str, float]:
    """What of a worker's own word on itself is measured at all, and is a number."""
    return {key: value for key, value in usage.items() if ("worker", key) in _BY_PLACE and 0 <= value < math.inf}


def fedml_values(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """One node's measurements of one time, rows of the query `system_metrics`, under FedML's names and in its units."""
    values: dict[tuple[str, str], list[float]] = {}  # of a name and key, by device
    for row in rows:
        entry = _BY_PLACE.get((row["scope"], row["key"]))
        if entry is not None and entry.fedml:
            divisor = entry.fedml_unit if entry.unit == "bytes" else 1
            values.setdefault((entry.fedml, entry.key), []).append(row["value"] / divisor)
    told: dict[str, float] = {}
    for (name, _), of_devices in values.items():
        told[name] = told.get(name, 0.0) + sum(of_devices) / len(of_devices)
    return told


def mlflow_values(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The same under MLflow's names, with their prefix."""
    told: dict[str, float] = {}
    for row in rows:
        entry = _BY_PLACE.get((row["scope"], row["key"]))
        if entry is not None and entry.mlflow:
            name = MLFLOW_PREFIX + entry.mlflow.replace("{device}", str(row["device"]))
            told[name] = told.get(name, 0.0) + row["value"] / entry.mlflow_unit
    return told
