"""A small ArtifactService that keeps everything in memory, for tests of the API and of the commands."""

from collections.abc import AsyncIterator
from typing import Any

import trio

from node.api.service.service import ArtifactFile, NotFound

Json = dict[str, Any]
PIECE_BYTES = 1 << 20


class MemoryArtifacts:
    """`kept` by node and name. `breaks_after`: so many bytes, and then the disk says no."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self.breaks_after: int | None = None

    async def all(self) -> list[Json]:
        return await self.listed("every run")

    async def listed(self, run: str) -> list[Json]:
        if run == "nothing":
            raise NotFound("no-such-run", f"No run is called {run!r}", remedy="see fednode run list")
        return [artifact_json(node, name, len(content)) for (node, name), content in self.kept.items()]

    async def file(self, run: str, node: str, name: str) -> ArtifactFile:
        if (node, name) not in self.kept:
            raise NotFound("no-such-artifact", f"None is called {name!r} here", remedy="see fednode artifacts list")
        content = self.kept[node, name]
        return ArtifactFile("ef" * 32, len(content), self._pieces(content))

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), PIECE_BYTES):
            if self.breaks_after is not None and start >= self.breaks_after:
                raise trio.BrokenResourceError("the disk said no")
            yield content[start : start + PIECE_BYTES]
            await trio.lowlevel.checkpoint()


def artifact_json(node: str, name: str, size: int) -> Json:
    entry = {"run_id": "cd" * 32, "node_id": node, "node_name": "alpha", "name": name, "round": 3, "kind": "figure"}
    return {**entry, "bytes": size, "blob": "ef" * 32, "time": "2026-01-01T00:00:00.000000Z", "details": {"of": 1}}
