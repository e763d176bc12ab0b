"""The care of the record in tests.node.memory_service: in memory, in the shapes of docs/api.md."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from node.api.service.store import StoreCopy
from tracker.retention import Rules

Json = dict[str, Any]


class MemoryStore:
    """`calls` is told of everything that was asked. `findings` is what a check gives."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self._rules = Rules()
        self.copy = b"a store"
        self.findings: list[Json] = []

    async def retention(self) -> Json:
        return {
            "retention": [
                {"kind": kind, "kept": text, "default": text, "what": "something"}
                for kind, text in self._rules.texts().items()
            ]
        }

    async def set_retention(self, rules: Mapping[str, str]) -> Json:
        self._rules = self._rules.changed(rules)
        return await self.retention()

    async def prune(self, *, dry_run: bool) -> Json:
        self._calls.append(("prune", dry_run))
        blobs = {"checkpoints": {"blobs": 2, "bytes": 2048}}
        answer = {"rows": {"logs": 1200}, "blobs": blobs, "bytes": 2048, "participants": 1, "spared": "nothing much"}
        return {"dry_run": dry_run, **answer}

    async def compact(self) -> Json:
        return {"bytes_before": 4096, "bytes_after": 1024}

    async def backup(self) -> StoreCopy:
        async def pieces() -> AsyncIterator[bytes]:
            yield self.copy[:3]
            yield self.copy[3:]

        return StoreCopy(len(self.copy), pieces())

    async def check(self, *, deep: bool) -> Json:
        ok = not any(finding["error"] for finding in self.findings)
        return {"store": "record.duckdb", "version": 2, "rows": {"runs": 3}, "ok": ok, "findings": self.findings}

    async def take_in(self, name: str, models: str | None) -> Json:
        self._calls.append(("take in", name, models))
        return {"rows": {"runs": 1}, "runs": ["r"], "too_old": 7, "blobs": 0, "blobs_damaged": 0}
