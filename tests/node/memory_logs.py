"""The logs of all nodes of tests.node.memory_service: in memory, in the shapes of docs/api.md."""

import threading
from typing import Any

import trio

from node.api.service.service import AllLogsQuery, GatheringLogs, LogPolicy, NotFound
from node.logs.gather import Send

Json = dict[str, Any]
TIME = "2026-01-01T00:00:00.000000Z"


def line_json(node: str, message: str, level: str = "INFO") -> Json:
    line = {
        "seq": 1,
        "time": TIME,
        "level": level,
        "node_id": f"12D3KooW{node}",
        "node_name": node,
        "run_id": "cd" * 32,
    }
    return {**line, "logger": "task.log", "message": message}


class MemoryLogs:
    """`batches` is what comes; then, where it `goes_on`, nothing more does, and the reader must leave."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.shared: LogPolicy = "none"
        self.batches: list[list[Json]] = []
        self.goes_on = False
        self.left = threading.Event()

    async def policy(self) -> str:
        return self.shared

    async def set_policy(self, policy: LogPolicy) -> str:
        self.shared = policy
        return policy

    async def prepare(self, run: str, query: AllLogsQuery) -> GatheringLogs:
        self.calls.append(("all_logs", run, query))
        if run == "nothing":
            raise NotFound("no-such-run", "No run is called 'nothing'", remedy="see fednode run list")
        return _Gathering(self)


class _Gathering:
    def __init__(self, logs: MemoryLogs) -> None:
        self._logs = logs

    async def run(self, send: Send) -> None:
        try:
            for batch in self._logs.batches:
                await send(batch)
            if self._logs.goes_on:
                await trio.sleep_forever()
        finally:
            self._logs.left.set()
