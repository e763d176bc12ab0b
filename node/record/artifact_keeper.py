"""Keeps what a task makes: its artifacts become blobs of this node, and rows of its record.

They never leave the node. What a run may keep is bounded; what is over the bounds, or cannot be kept for another
reason, is left out with a warning in the run's log, and training goes on.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from fednode_artifacts import artifact_name
from node.run.chronicle import Chronicle
from node.seams import Disk, TaskOutput
from node.training.staged_files import ARTIFACT_BYTES_MAX, take_in
from protocol.errors import FednodeError

ARTIFACTS_MAX = 1000  # names, of one run and node
RUN_BYTES_MAX = 2 * 1024**3  # kept for one run and node since the node started, what took a name's place counted too


class ArtifactKeeper:
    """One run's, on this node. `offload` runs what blocks."""

    def __init__(
        self, chronicle: Chronicle, disk: Disk, offload: Callable[[Callable[[], Any]], Awaitable[Any]]
    ) -> None:
        self._chronicle = chronicle
        self._disk = disk
        self._offload = offload
        self._blobs: dict[str, str] | None = None  # by name; None as long as the record was not asked
        self._bytes = 0
        self._warned: set[str] = set()

    def holds(self, blob: str) -> bool:
        """Whether an artifact that was kept since the node started, or beside such a one, is this blob."""
        return self._blobs is not None and blob in self._blobs.values()

    async def keep(self, artifact: TaskOutput, folder: Path) -> None:
        """Take in the artifact whose file lies in `folder`, where the task's code may have put anything."""
        content: bytes | Path = b""
        try:
            name = artifact_name(artifact.name)
            known = await self._known()
            if len(known) >= ARTIFACTS_MAX and name not in known:
                self._leave_out("number", f"artifacts beyond {ARTIFACTS_MAX} are left out, the first of them {name!r}")
                return
            content = await self._taken(artifact, folder)
            blob = await self._disk.put_blob(content)
            size = (await self._disk.open_blob(blob)).size
        except (FednodeError, OSError, ValueError) as error:
            why = error.what if isinstance(error, FednodeError) else error
            self._leave_out(str(why), f"the artifact {artifact.name[:80]!r} is left out: {why}")
            return
        finally:
            if isinstance(content, Path):
                await self._offload(partial(content.unlink, missing_ok=True))
        self._bytes += size
        known[name] = blob
        self._chronicle.made(artifact, blob, size)

    async def _taken(self, artifact: TaskOutput, folder: Path) -> bytes | Path:
        assert artifact.staged is not None
        room = min(ARTIFACT_BYTES_MAX, RUN_BYTES_MAX - self._bytes)
        taken: bytes | Path = await self._offload(
            partial(take_in, folder, artifact.staged.file, room, self._disk.scratch())
        )
        return taken

    async def _known(self) -> dict[str, str]:
        """What is kept already, of earlier lives of this node too."""
        if self._blobs is None:
            rows = await self._chronicle.artifacts()
            self._blobs = {row["name"]: row["blob"] for row in rows}
            self._bytes = sum(row["bytes"] for row in rows)
        return self._blobs

    def _leave_out(self, reason: str, text: str) -> None:
        """Once for each reason: a task that makes one in every step says nothing new."""
        if reason not in self._warned and len(self._warned) < ARTIFACTS_MAX:
            self._warned.add(reason)
            self._chronicle.log("WARNING", "task.artifact", text)
