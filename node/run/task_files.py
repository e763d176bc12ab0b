"""Task files of this node's own: found by their hash, so that a run's manifest need not say where they lie.

A file is read in the worker only. Nobody else's code comes here by itself: a file is registered by the node's owner.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
from blake3 import blake3

from node.seams import Disk
from protocol.errors import Refused
from protocol.manifest.manifest import Manifest

_FILE = "tasks"
TASK_FILE_BYTES_MAX = 4 * 1024 * 1024  # source code; data and weights belong elsewhere


class TaskFiles:
    """Which file has which hash, kept over restarts."""

    def __init__(self, disk: Disk, offload: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._disk = disk
        self._offload = offload
        self._paths: dict[str, str] = {}

    async def load(self) -> None:
        raw = await self._disk.read(_FILE)
        if raw is not None:
            self._paths = {str(key): str(value) for key, value in msgpack.unpackb(raw).items()}

    async def hash_of(self, path: Path) -> str:
        """A file's hash. Raises Refused when it cannot be read."""
        digest: str = await self._offload(partial(_hash_file, path))
        return digest

    async def register(self, path: Path) -> str:
        """Remember where a task file lies; its hash. Raises Refused when it cannot be read."""
        digest = await self.hash_of(path)
        if self._paths.get(digest) != str(path):
            self._paths[digest] = str(path)
            await self._disk.write(_FILE, msgpack.packb(self._paths))
        return digest

    async def take(self, manifest: Manifest, path: Path) -> None:
        """Remember where the manifest's task file lies. Raises Refused when `path` is another file, or unreadable."""
        digest = await self.hash_of(path)
        if digest != manifest.task.hash:
            wanted = f"BLAKE3 {manifest.task.hash[:12]}…" if manifest.task.hash else f"built in: {manifest.task.name}"
            raise Refused(
                "wrong-task",
                f"{path} is not the run's task file: it has BLAKE3 {digest[:12]}…, the run's task is {wanted}",
                remedy="name the very file that the run was proposed with, or leave --task out",
            )
        await self.register(path)

    async def find(self, manifest: Manifest) -> str | None:
        """Where the manifest's task file lies here; None for a built-in task, or for a file that is not here."""
        wanted = manifest.task.hash
        path = self._paths.get(wanted) if wanted else None
        return path if path and await self._offload(partial(_has_hash, Path(path), wanted)) else None

    async def require(self, manifest: Manifest) -> None:
        """Raises Refused unless the manifest's task file is here, unchanged."""
        if manifest.task.hash is not None and await self.find(manifest) is None:
            raise Refused(
                "no-such-task",
                f"This node does not have the task file {manifest.task.file} (BLAKE3 {manifest.task.hash[:12]}…)",
                remedy="get the file from the proposer, read it, and accept with fednode run accept RUN --task FILE",
            )


def _hash_file(path: Path) -> str:
    try:
        if path.stat().st_size > TASK_FILE_BYTES_MAX:
            raise Refused("bad-task", f"{path} is too large for a task file", remedy="keep data out of it")
        return blake3(path.read_bytes()).hexdigest()
    except OSError as error:
        raise Refused("bad-task", f"{path} cannot be read ({error.strerror})", remedy="check the path") from None


def _has_hash(path: Path, digest: str | None) -> bool:
    try:
        return _hash_file(path) == digest
    except Refused:
        return False
