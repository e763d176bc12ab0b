"""Machines and processes: what is measured is there and right, and what cannot be measured is nobody's trouble."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import trio

from node.system.gpu import Gpus, find_gpus
from node.system.metrics import Reading, SystemMeter, SystemWatch, Worker
from node.system.names import SYSTEM_KEYS, fedml_values, known_usage, mlflow_values, unit_of
from node.training.worker_usage import UsageMeter
from protocol.keys import NodeId
from tracker.tables.rows import SystemMetricRow

DEADLINE_S = 60
NO_GPUS = Gpus(None)

# A worker that computes for a while, and a child of its own that holds memory; then both wait.
BUSY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "b = b'x' * (64 << 20); print(1, flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("ready", flush=True)
input()
end = time.process_time() + 0.3
while time.process_time() < end: pass
print("done", flush=True)
input()
"""


def by_place(readings: list[Reading]) -> dict[tuple[str, str], float]:
    return {(reading.scope, reading.key): reading.value for reading in readings}


def test_the_machine_and_our_own_process_are_measured(tmp_path: Path) -> None:
    meter = SystemMeter(tmp_path, NO_GPUS)
    meter.read([])
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(1 << 20))
    found = by_place(meter.read([]))
    wanted = {(entry.scope, entry.key) for entry in SYSTEM_KEYS if entry.scope != "worker" and "gpu" not in entry.key}
    disks = {("host", "disk_read_bytes"), ("host", "disk_written_bytes")}  # a container may show none
    assert wanted - disks <= found.keys() <= wanted
    assert (
        found["host", "memory_used_bytes"] + found["host", "memory_available_bytes"]
        <= 1.1 * psutil.virtual_memory().total
    )
    assert found["node", "memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert 0 <= found["host", "cpu_percent"] <= 100
    assert 0 <= found["host", "disk_percent"] <= 100
    assert 0 <= found["host", "network_sent_bytes"] < 1e12  # since the meter was made, not since the machine was


def test_the_machines_share_is_right_whichever_thread_reads_it(tmp_path: Path) -> None:
    meter = SystemMeter(tmp_path, NO_GPUS)
    shares: list[float] = []
    for _ in range(2):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        thread = threading.Thread(target=lambda: shares.append(by_place(meter.read([]))["host", "cpu_percent"]))
        thread.start()
        thread.join(DEADLINE_S)
    assert len(shares) == 2
    assert all(0 < share <= 100 for share in shares)


def test_a_worker_is_measured_with_what_it_started(tmp_path: Path) -> None:
    meter = SystemMeter(tmp_path, NO_GPUS)
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        worker = Worker(process.pid, "run", 4)
        first = [reading for reading in meter.read([worker]) if reading.scope == "worker"]
        assert {reading.key for reading in first} == {"memory_bytes", "threads"}  # of its work nothing is known yet
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        second = [reading for reading in meter.read([worker]) if reading.scope == "worker"]
        assert {(reading.run_id, reading.round) for reading in second} == {("run", 4)}
        values = {reading.key: reading.value for reading in second}
        assert values["cpu_percent"] > 1
        assert values["memory_bytes"] > 64 << 20
        assert values["threads"] >= 2
        process.kill()
    assert not [reading for reading in meter.read([worker]) if reading.scope == "worker"]
    meter.read([])
    assert not meter._worked


def test_a_disk_that_is_gone_keeps_nothing_else_from_being_measured(tmp_path: Path) -> None:
    found = by_place(SystemMeter(tmp_path / "unplugged", NO_GPUS).read([Worker(2**22 - 1, "run", 1)]))
    assert ("host", "disk_percent") not in found
    assert ("host", "memory_percent") in found
    assert not [place for place in found if place[0] == "worker"]


def test_a_worker_tells_what_it_takes_itself() -> None:
    meter = UsageMeter()
    sum(number * number for number in range(300_000))
    usage = meter.usage()
    assert usage.keys() <= {"cpu_percent", "memory_bytes", "gpu_memory_bytes"}
    assert usage["cpu_percent"] > 1
    assert usage["memory_bytes"] > 10 << 20


# --- GPUs --------------------------------------------------------------------------------------------------------
class NVMLError(Exception):
    pass


def nvml(**changes: Any) -> Any:
    """What the module pynvml gives of a machine with two GPUs."""

    def unsupported(handle: int) -> Any:
        raise NVMLError("Not Supported")

    module = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=90 + handle, memory=30),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=20 << 30, total=80 << 30),
        nvmlDeviceGetPowerUsage=lambda handle: 350_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlDeviceGetTemperature=lambda handle, sensor: 61,
    )
    for name, value in changes.items():
        setattr(module, name, unsupported if value is None else value)
    return module


def test_every_gpu_is_measured() -> None:
    first = {key: value for key, device, value in find_gpus(lambda name: nvml()).readings() if device == "0"}
    assert first == {
        "gpu_percent": 90,
        "gpu_memory_access_percent": 30,
        "gpu_memory_used_bytes": 20 << 30,
        "gpu_memory_percent": 25,
        "gpu_watts": 350,
        "gpu_power_percent": 50,
        "gpu_celsius": 61,
    }
    assert {device for _, device, _ in Gpus(nvml()).readings()} == {"0", "1"}
    assert {entry.key for entry in SYSTEM_KEYS if entry.scope == "host" and "gpu" in entry.key} == first.keys()


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    told = {key for key, _, _ in Gpus(nvml(nvmlDeviceGetPowerUsage=None)).readings()}
    assert "gpu_watts" not in told
    assert {"gpu_percent", "gpu_celsius"} <= told


def _raise(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def test_without_driver_or_package_there_are_no_gpus() -> None:
    assert list(Gpus(nvml(nvmlInit=_raise(NVMLError("no driver")))).readings()) == []
    assert list(find_gpus(lambda name: _raise(ImportError(name))()).readings()) == []
    assert list(find_gpus().readings()) is not None  # whatever this machine has


# --- the watch ---------------------------------------------------------------------------------------------------
class Meter:
    """Reads how often it was asked."""

    def __init__(self) -> None:
        self.reads = count(1)

    def read(self, workers: tuple[Worker, ...]) -> list[Reading]:
        number = float(next(self.reads))
        own = [Reading("worker", "threads", number, "", worker.run_id, worker.round) for worker in workers]
        return [Reading("host", "cpu_percent", number), *own]


def test_the_watch_records_a_sample_at_once_and_again_while_a_run_goes_on() -> None:
    taken: list[SystemMetricRow] = []
    numbers = count(100)

    async def main() -> None:
        enough = trio.Event()

        def take(rows: Any) -> None:
            taken.extend(rows)
            if len(taken) >= 4:
                enough.set()

        watch = SystemWatch(
            NodeId("me"),
            Meter,  # type: ignore[arg-type]
            interval_s=0.001,  # too often: a second it is
            workers=lambda: [Worker(1, "run", 7)],
            is_active=lambda: True,
            take=take,
            now=lambda: 5.0,
            sequence=lambda: next(numbers),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            with trio.fail_after(DEADLINE_S):
                await enough.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert [(row.scope, row.key, row.value, row.unit) for row in taken[:2]] == [
        ("host", "cpu_percent", 1.0, "percent"),
        ("worker", "threads", 1.0, "count"),
    ]
    assert [(row.run_id, row.round) for row in taken[:2]] == [("", 0), ("run", 7)]
    assert [row.sequence for row in taken[:4]] == [100, 101, 102, 103]
    assert {(row.node_id, row.source_node, row.time) for row in taken} == {("me", "me", 5.0)}


# --- names -------------------------------------------------------------------------------------------------------
def row(scope: str, key: str, value: float, device: str = "") -> dict[str, Any]:
    return {"scope": scope, "key": key, "value": value, "device": device}


SAMPLE = [
    row("host", "cpu_percent", 40.0),
    row("host", "memory_used_bytes", 4e9),
    row("host", "memory_percent", 50.0),
    row("host", "memory_available_bytes", 512 * 2**20),
    row("host", "disk_percent", 70.0),
    row("host", "network_sent_bytes", 1e6),
    row("host", "network_received_bytes", 3e6),
    row("host", "gpu_percent", 80.0, "0"),
    row("host", "gpu_percent", 100.0, "1"),
    row("host", "gpu_watts", 300.0, "1"),
    row("node", "memory_bytes", 100 * 2**20),
    row("node", "threads", 9.0),
    row("worker", "cpu_percent", 99.0),
]


def test_names_and_units_of_fedml() -> None:
    """In its units: MiB that it calls MB, bytes of network both ways, the mean over GPUs."""
    assert fedml_values(SAMPLE) == {
        "cpu_utilization": 40.0,
        "SystemMemoryUtilization": 50.0,
        "process_memory_available": 512.0,
        "process_memory_in_use": 100.0,
        "process_cpu_threads_in_use": 9.0,
        "disk_utilization": 70.0,
        "network_traffic": 4e6,
        "gpu_utilization": 90.0,
    }


def test_names_and_units_of_mlflow() -> None:
    """In its units: MB of a million bytes, a name for each GPU."""
    assert mlflow_values(SAMPLE) == {
        "system/cpu_utilization_percentage": 40.0,
        "system/system_memory_usage_megabytes": 4000.0,
        "system/system_memory_usage_percentage": 50.0,
        "system/disk_usage_percentage": 70.0,
        "system/network_transmit_megabytes": 1.0,
        "system/network_receive_megabytes": 3.0,
        "system/gpu_0_utilization_percentage": 80.0,
        "system/gpu_1_utilization_percentage": 100.0,
        "system/gpu_1_power_usage_watts": 300.0,
    }


def test_every_key_says_its_unit() -> None:
    assert {entry.unit for entry in SYSTEM_KEYS} == {"percent", "bytes", "watts", "celsius", "count"}
    assert [unit_of(key) for key in ("threads", "gpu_watts", "of_the_future")] == ["count", "watts", "count"]
    assert len({(entry.scope, entry.key) for entry in SYSTEM_KEYS}) == len(SYSTEM_KEYS)


def test_of_a_workers_own_word_only_what_is_measured_counts() -> None:
    told = {
        "cpu_percent": 50.0,
        "memory_bytes": float("nan"),
        "threads": -1.0,
        "gpu_memory_bytes": float("inf"),
        "x": 1.0,
    }
    assert known_usage(told) == {"cpu_percent": 50.0}
