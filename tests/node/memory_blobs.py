"""The care of blobs, transfers and limits in tests.node.memory_service: in memory, in the shapes of docs/api.md."""

from collections.abc import Mapping
from typing import Any

from node.network.rates import rate_of, size_of

Json = dict[str, Any]
BLOB = "ab" * 32


class MemoryBlobs:
    """`calls` is told of everything that was asked. `damaged` is what reading through finds."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self.damaged: list[Json] = []

    async def usage(self) -> Json:
        kinds = [
            {"kind": "models", "what": "of rounds", "blobs": 2, "bytes": 2048},
            {"kind": "updates", "what": "of a round", "blobs": 0, "bytes": 0},
            {"kind": "garbage", "what": "of no use", "blobs": 1, "bytes": 500},
        ]
        runs = [{"run_id": "cd" * 32, "name": "study", "blobs": 2, "bytes": 2048}] * 2
        room = {"blobs_max_bytes": 10**9, "disk_free_bytes": 10**10}
        return {"blobs": 3, "bytes": 2548, "kinds": kinds, "runs": runs, "spared": "", **room}

    async def verify(self) -> Json:
        return {"blobs": 3, "bytes": 2548, "damaged": self.damaged}

    async def collect(self, *, dry_run: bool) -> Json:
        self._calls.append(("collect", dry_run))
        kinds = [{"kind": "leftovers", "why": "nothing needs them", "blobs": 1, "bytes": 500}]
        rest = {"recent": {"blobs": 23, "bytes": 4096}, "spared": "nothing much"}
        return {"dry_run": dry_run, "kinds": kinds, "bytes": 500, **rest}


class MemoryTransfers:
    """Two blobs on their way, and limits that are remembered."""

    def __init__(self) -> None:
        self.known: Json = {
            "up_bytes_per_s": None,
            "down_bytes_per_s": None,
            "blobs_max_bytes": None,
            "blobs_bytes": 2548,
        }

    async def listed(self) -> list[Json]:
        told = {"blob": BLOB, "run_id": "cd" * 32, "began_at": "2026", "rate_bytes_per_s": 2.5e6}
        coming = {
            "kind": "update",
            "run_name": "study",
            "direction": "in",
            "peer": "12D3KooWOther",
            "peer_name": "beta",
        }
        going = {"kind": "", "run_name": "", "direction": "out", "peer": "", "peer_name": ""}
        return [
            {**told, **coming, "done_bytes": 25_000_000, "total_bytes": 100_000_000, "left_s": 30.0},
            {**told, **going, "done_bytes": 10, "total_bytes": 20, "left_s": None},
        ]

    async def limits(self) -> Json:
        return self.known

    async def set_limits(self, texts: Mapping[str, str]) -> Json:
        for key, text in texts.items():
            if key == "blobs_max":
                self.known["blobs_max_bytes"] = size_of(text)
            else:
                self.known[f"{key}_bytes_per_s"] = rate_of(text)
        return self.known
