"""What this node's tasks have made and kept, for those who may open its socket. Nothing of it leaves the node."""

from collections.abc import AsyncIterator, Awaitable, Callable

from node.api.service.service import ArtifactFile, Json, NotFound
from node.seams import BlobReader, Disk, Record
from protocol.keys import BlobId


class Artifacts:
    """See node.api.service.service.ArtifactService. `run_id` and `node_id` find what people call runs and nodes."""

    def __init__(
        self,
        record: Record,
        disk: Disk,
        run_id: Callable[[str], Awaitable[str]],
        node_id: Callable[[str], Awaitable[str]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._record = record
        self._disk = disk
        self._run_id = run_id
        self._node_id = node_id
        self._catch_up = catch_up

    async def all(self) -> list[Json]:
        await self._catch_up()
        return await self._record.query("artifacts")

    async def listed(self, run: str) -> list[Json]:
        await self._catch_up()
        run_id = await self._run_id(run)
        if not await self._record.query("run", run_id=run_id):
            raise NotFound("no-such-run", f"No run is called {run!r}", remedy="see fednode run list")
        return await self._record.query("artifacts", run_id=run_id)

    async def file(self, run: str, node: str, name: str) -> ArtifactFile:
        await self._catch_up()
        run_id, node_id = await self._run_id(run), await self._node_id(node)
        rows = await self._record.query("artifacts", run_id=run_id, node=node_id, artifact=name)
        if not rows:
            raise NotFound(
                "no-such-artifact",
                f"No artifact of {run} by {node} is called {name!r} here",
                remedy="see fednode artifacts list; each node keeps its own",
            )
        reader = await self._disk.open_blob(BlobId(rows[0]["blob"]))
        return ArtifactFile(rows[0]["blob"], reader.size, _pieces(reader))


async def _pieces(reader: BlobReader) -> AsyncIterator[bytes]:
    for index in range(len(reader.chunk_hashes)):
        yield await reader.chunk(index)
