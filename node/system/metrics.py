"""How busy this machine, this process and its workers are: measured at a set interval, recorded, and counted.

While a run goes on, every `system_interval_s` (10 s, as FedML and MLflow): some 20 rows a sample, 170,000 a day, 5 MB
of the store. While none goes on nobody compares anything with rounds, so once a minute is enough: 16 rows, 23,000 a
day. Each node records its own alone, so three nodes cost each of them no more than one does.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import psutil
import trio

from node.system.gpu import Gpus, find_gpus
from node.system.names import unit_of
from protocol.keys import NodeId
from tracker.tables.rows import SystemMetricRow

if TYPE_CHECKING:
    from node.node import Node
    from node.training.trainer import WorkerTrainer

T = TypeVar("T")
IDLE_INTERVAL_S = 60.0  # while no run goes on
LOOK_EVERY_S = 1.0  # whether it is time: a run of some seconds is measured too, and a look costs 20 microseconds


class Worker(NamedTuple):
    """A run's worker process, and the round that is under way there."""

    pid: int
    run_id: str
    round: int


class Reading(NamedTuple):
    scope: str
    key: str
    value: float
    device: str = ""
    run_id: str = ""
    round: int = 0


class SystemMeter:
    """Reads the machine. Blocks for milliseconds, or as long as a disk hangs: for a thread, one call at a time.

    `home`: whose disk is looked at. What counts up begins at 0 here; shares of time are those since the last call.
    """

    def __init__(self, home: Path, gpus: Gpus) -> None:
        self._home = home
        self._gpus = gpus
        self._us = psutil.Process()
        self._moved_before = dict(_moved())
        self._worked: dict[int, tuple[float, float]] = {}  # of each worker: when looked at, and its CPU seconds by then
        self._cpu_before = _cpu_seconds()
        self._us.cpu_percent()  # the first call tells nothing

    def read(self, workers: Sequence[Worker]) -> list[Reading]:
        """Everything that can be read now; what the system does not tell is left out."""
        readings = [Reading("host", key, value) for key, value in self._host()]
        readings += [Reading("host", key, value, device) for key, device, value in self._gpus.readings()]
        with suppress(psutil.Error, OSError):
            readings += [Reading("node", key, value) for key, value in self._own()]
        for worker in workers:
            readings += self._worker(worker)
        self._worked = {worker.pid: self._worked[worker.pid] for worker in workers if worker.pid in self._worked}
        return readings

    def _host(self) -> Iterable[tuple[str, float]]:
        memory = psutil.virtual_memory()
        # Not psutil.cpu_percent, which remembers for each thread apart; who reads is now one thread, now another.
        (busy, in_all), before = _cpu_seconds(), self._cpu_before
        self._cpu_before = busy, in_all
        yield "cpu_percent", 100 * max(0.0, busy - before[0]) / max(in_all - before[1], 0.01)
        yield "memory_used_bytes", memory.used
        yield "memory_available_bytes", memory.available
        yield "memory_percent", memory.percent
        with suppress(OSError):
            disk = psutil.disk_usage(str(self._home))
            yield from (("disk_used_bytes", disk.used), ("disk_free_bytes", disk.free), ("disk_percent", disk.percent))
        for key, value in _moved():
            yield key, max(0, value - self._moved_before.get(key, 0))

    def _own(self) -> list[tuple[str, float]]:
        with self._us.oneshot():
            return [
                ("cpu_percent", self._us.cpu_percent()),
                ("memory_bytes", self._us.memory_info().rss),
                ("memory_percent", self._us.memory_percent()),
                ("threads", self._us.num_threads()),
                ("open_files", self._us.num_fds()),
            ]

    def _worker(self, worker: Worker) -> list[Reading]:
        """A worker with all that it started, as one."""
        cpu_s, memory, threads = 0.0, 0, 0
        try:
            root = psutil.Process(worker.pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            return []
        for process in processes:
            with suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                # Of those that have ended the parent knows; where it does not, they worked in vain for this figure.
                cpu_s += times.user + times.system + times.children_user + times.children_system
                memory += process.memory_info().rss
                threads += process.num_threads()
        now = time.monotonic()
        before = self._worked.get(worker.pid)
        self._worked[worker.pid] = (now, cpu_s)
        told = [("memory_bytes", float(memory)), ("threads", float(threads))]
        if before is not None and now > before[0]:
            told.insert(0, ("cpu_percent", 100 * max(0.0, cpu_s - before[1]) / (now - before[0])))
        return [Reading("worker", key, value, "", worker.run_id, worker.round) for key, value in told]


def _cpu_seconds() -> tuple[float, float]:
    """Of all cores since the machine started: in which they worked, and in all."""
    times = psutil.cpu_times()._asdict()
    in_all = sum(seconds for kind, seconds in times.items() if not kind.startswith("guest"))  # these are users' too
    return in_all - times["idle"] - times.get("iowait", 0.0), in_all


def _moved() -> Iterable[tuple[str, int]]:
    """What went through disks and network interfaces since the machine started, as far as the system counts that."""
    disks: Any = None
    with suppress(RuntimeError, OSError):  # some containers show no disks
        disks = psutil.disk_io_counters()
    if disks is not None:
        yield from (("disk_read_bytes", disks.read_bytes), ("disk_written_bytes", disks.write_bytes))
    network: Any = psutil.net_io_counters()
    if network is not None:
        yield from (("network_sent_bytes", network.bytes_sent), ("network_received_bytes", network.bytes_recv))


class SystemWatch:
    """Measures this node's machine as long as it runs.

    Args:
        open_meter: called once, in a thread: to find GPUs takes its time.
        workers: those of the runs that go on here.
        is_active: whether any run goes on here.
        take: given the rows of each sample.
    """

    def __init__(
        self,
        me: NodeId,
        open_meter: Callable[[], SystemMeter],
        *,
        interval_s: float,
        workers: Callable[[], Sequence[Worker]],
        is_active: Callable[[], bool],
        take: Callable[[Sequence[SystemMetricRow]], None],
        now: Callable[[], float],
        sequence: Callable[[], int],
    ) -> None:
        self._me = me
        self._open_meter = open_meter
        self._interval_s = interval_s
        self._workers = workers
        self._is_active = is_active
        self._take = take
        self._now = now
        self._sequence = sequence

    async def run(self) -> None:
        """Measure until cancelled."""
        meter = await _in_thread(self._open_meter)
        measured_at = -math.inf
        while True:
            await trio.sleep(LOOK_EVERY_S)
            interval_s = self._interval_s if self._is_active() else max(self._interval_s, IDLE_INTERVAL_S)
            if trio.current_time() - measured_at >= interval_s:
                measured_at = trio.current_time()
                self._tell(await _in_thread(partial(meter.read, tuple(self._workers()))))

    def _tell(self, readings: Sequence[Reading]) -> None:
        at, me = self._now(), self._me
        self._take(
            [
                SystemMetricRow(
                    *(me, one.run_id, one.scope, one.key, one.device, float(one.value), unit_of(one.key)),
                    *(one.round, at, me, self._sequence()),
                )
                for one in readings
            ]
        )


async def _in_thread(work: Callable[[], T]) -> T:
    """A disk that hangs keeps its thread, and the node stops without it."""
    done: T = await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]
    return done


def system_watch(node: "Node", trainer: "WorkerTrainer", home: Path, interval_s: float) -> SystemWatch:
    """The watch over a real node, its machine, and the workers of its runs."""

    def workers() -> list[Worker]:
        drivers = {known.run_id: known.driver for known in node.runs.active() if known.driver is not None}
        rounds = {run: driver.machine.ledger.committed_round + 1 for run, driver in drivers.items()}
        return [Worker(pid, run, rounds[run]) for pid, run in trainer.workers() if run in rounds]

    def take(rows: Sequence[SystemMetricRow]) -> None:
        node.record.add(*rows)
        node.counts.sampled(rows)

    return SystemWatch(
        node.identity.node_id,
        lambda: SystemMeter(home, find_gpus()),
        interval_s=interval_s,
        workers=workers,
        is_active=lambda: bool(node.runs.active()),
        take=take,
        now=node.now,
        sequence=node.runs.numbers,
    )
