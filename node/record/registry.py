"""The registry: names, versions and aliases that this node's owner gives to models, and models as files.

The registry is this node's own: it is in its record alone, nobody else hears of it. A version is for ever one model of
one run; the same model under the same name again is the same version. Removing a name takes all its versions away, and
their numbers are not given again. What stands in the registry keeps its blobs (tracker's query `kept_models`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from node.api.service.service import ModelFile, NotFound
from node.record.model_names import (
    check_alias,
    check_name,
    entries_of,
    model_named,
    models_of,
)
from node.seams import Disk, Record
from protocol.errors import FednodeError
from protocol.keys import BlobId
from tracker.queries.asking import answered
from tracker.queries.lineage import lineage_of
from tracker.tables.rows import ModelAliasRow, RegisteredModelRow

if TYPE_CHECKING:
    from aggregation.tensors.schema import Buffer, Schema

PIECE_BYTES = 1024 * 1024  # of a model's file, read and sent at a time

Json = dict[str, Any]


class Registry:
    """Models by name. `offload` runs what reads files; `tell` hears that something has changed; `mend` fetches what a
    model's blobs lack from the nodes of its run, and says whether they are whole then."""

    def __init__(
        self,
        record: Record,
        disk: Disk,
        offload: Callable[[Callable[[], Any]], Awaitable[Any]],
        now: Callable[[], float],
        tell: Callable[[Json], None],
        mend: Callable[[Json], Awaitable[bool]],
    ) -> None:
        self._record = record
        self._disk = disk
        self._offload = offload
        self._now = now
        self._tell = tell
        self._mend = mend
        self._changing = trio.Lock()  # one change at a time: two tags at once get two versions

    # --- reading -------------------------------------------------------------------------------------------------
    async def listed(self, of: str | None) -> list[Json]:
        """Every registered version; or those of a name, and the models of a run. `here`: whether the blobs are."""
        await self._catch_up()
        models = await answered(models_of(of), self._record.query)
        return [{**model, "here": await self._is_here(model)} for model in models]

    async def show(self, text: str) -> Json:
        """MODEL with its lineage and evaluations. Raises NotFound, and Refused for what means several models."""
        model = await self.find(text)
        return {**model, **await answered(lineage_of(model), self._record.query)}

    async def find(self, text: str) -> Json:
        """The MODEL that `text` means, be its blobs here or not. Raises NotFound and Refused."""
        await self._catch_up()
        model = await answered(model_named(text), self._record.query)
        return {**model, "here": await self._is_here(model)}

    async def held(self, text: str) -> Json:
        """The same, of a model whose blobs are here. Raises NotFound with the remedy when they are gone."""
        model = await self.find(text)
        if not model["here"] and await self._mend(model):
            model["here"] = True
        if not model["here"]:
            run = model["run"] or model["run_id"][:12]
            raise NotFound(
                "no-such-blob",
                f"The model of round {model['round']} of {run} is not here any more: the record knows it, but its blob "
                f"{model['model'][:12]}… is gone, and no node of its run that is here gave it",
                remedy=f"choose one that fednode model list {run} shows as here; what is registered "
                "(fednode model tag) is kept",
            )
        return model

    async def schema(self, text: str) -> Json:
        """The tensors of a model that is here: name, dtype, shape and kind."""
        model = await self.held(text)
        schema = await self._schema_of(model)
        tensors = [
            {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "kind": spec.kind}
            for spec in schema.tensors
        ]
        return {"schema_id": schema.schema_id, "bytes": schema.model_bytes, "tensors": tensors}

    async def file(self, text: str) -> ModelFile:
        """A model that is here as a safetensors file, which says itself where it comes from."""
        model = await self.held(text)
        return await self._file(model, {**await self._origin(model), **_entry(model)})

    async def run_file(self, run_id: str, round_number: int | None, run: str) -> ModelFile:
        """The same by run and round: the newest that is recorded without `round_number`. The file is the same, byte for
        byte, on every node of the run. `run` is what the caller called it."""
        await self._catch_up()
        rows = await self._record.query("committed_models", run_id=run_id, round=round_number, limit=1)
        if not rows:
            which = "no committed checkpoint" if round_number is None else f"no checkpoint of round {round_number}"
            raise NotFound("no-such-model", f"There is {which} of {run} here", remedy="see fednode run show")
        # Who was away in the round knows the model and not which checkpoint it came in.
        return await self._file(rows[0], await self._origin({**rows[0], "checkpoint": ""}))

    async def _file(self, model: Json, metadata: dict[str, str]) -> ModelFile:
        from aggregation.tensors.safetensors_file import (  # numpy: once somebody wants one
            safetensors_pieces,
            safetensors_size,
        )

        try:
            schema, data = await self._schema_of(model), await self._disk.blob_data(BlobId(model["model"]))
        except FednodeError:  # damaged, and set aside now; or gone
            if not await self._mend(model):
                raise
            schema, data = await self._schema_of(model), await self._disk.blob_data(BlobId(model["model"]))
        size = safetensors_size(schema, metadata)
        pieces = self._pieces(safetensors_pieces(schema, data, metadata))
        return ModelFile(model["round"], model["model"], size, pieces)

    async def _pieces(self, pieces: "Iterator[Buffer]") -> AsyncIterator[bytes]:
        while piece := await self._offload(partial(_next_of, pieces)):
            yield piece

    async def _schema_of(self, model: Json) -> "Schema":
        from aggregation.tensors.schema import Schema

        return Schema.from_bytes(await self._disk.read_blob(BlobId(model["schema"])))

    async def _origin(self, model: Json) -> dict[str, str]:
        """Where a model comes from, as texts for its file."""
        rows = await self._record.query("run", run_id=model["run_id"])
        run: Json = rows[0] if rows else {}
        task = run.get("manifest", {}).get("task") or {}
        origin = {
            "fednode_run_id": model["run_id"],
            "fednode_run": run.get("name", ""),
            "fednode_round": str(model["round"]),
            "fednode_checkpoint": model["checkpoint"],
            "fednode_model": model["model"],
            "fednode_group": run.get("group_id", ""),
            "fednode_task": run.get("task", ""),
            "fednode_task_hash": task.get("hash") or "",
        }
        return {key: value for key, value in origin.items() if value}

    async def _catch_up(self) -> None:
        """What was recorded just now is to be seen too; a disk that takes nothing keeps nobody from reading."""
        with suppress(FednodeError):
            await self._record.flush()

    async def _is_here(self, model: Json) -> bool:
        blobs = (BlobId(model["model"]), BlobId(model["schema"]))
        return await self._disk.has_blob(blobs[0]) and await self._disk.has_blob(blobs[1])

    # --- changing ------------------------------------------------------------------------------------------------
    async def tag(self, text: str, name: str, alias: str = "") -> Json:
        """Make a model that is here a version of `name`, and let `alias` stand for it. It is durable on return.

        Raises NotFound and Refused; FednodeError when the record takes nothing now."""
        check_name(name)
        if alias:
            check_alias(alias)
        async with self._changing:
            await self._record.flush()  # the last tag must be seen by the query below
            model = await self.held(text)
            entries = await self._record.query("registered_models", registered=name)
            place = (model["run_id"], model["round"], model["model"])
            same = [entry for entry in entries if (entry["run_id"], entry["round"], entry["model"]) == place]
            version = same[0]["version"] if same else max((entry["version"] for entry in entries), default=0) + 1
            if not same or same[0]["removed"]:
                self._record.add(RegisteredModelRow(name, version, *place, model["schema"], self._now()))
            if alias:
                self._record.add(ModelAliasRow(name, alias, version, self._now()))
            await self._save()
            return await self.held(f"{name}@{version}")  # it is kept from now on, unless it went in this very moment

    async def untag(self, name: str, alias: str) -> None:
        """Take an alias away; the version stays. Raises NotFound."""
        async with self._changing:
            entries = await self._entries(name)
            version = next((entry["version"] for entry in entries if alias in entry["aliases"]), None)
            if version is None:
                aliases = ", ".join(sorted(known for entry in entries for known in entry["aliases"])) or "none"
                what = f"{name} has no alias {alias!r}; its aliases: {aliases}"
                raise NotFound("no-such-alias", what, remedy=f"see fednode model list {name}")
            self._record.add(ModelAliasRow(name, alias, version, self._now(), removed=True))
            await self._save()

    async def remove(self, name: str) -> int:
        """Take a name with all its versions and aliases out of the registry. Gives how many versions those were."""
        async with self._changing:
            entries = await self._entries(name)
            for entry in entries:
                columns = {key: entry[key] for key in ("name", "version", "run_id", "round", "model", "schema")}
                self._record.add(RegisteredModelRow(**columns, time=self._now(), removed=True))
                for alias in entry["aliases"]:
                    self._record.add(ModelAliasRow(name, alias, entry["version"], self._now(), removed=True))
            await self._save()
            return len(entries)

    async def _save(self) -> None:
        await self._record.flush()
        self._tell({"type": "changed", "what": "models"})

    async def _entries(self, name: str) -> list[Json]:
        await self._record.flush()
        entries = await answered(entries_of(name), self._record.query)
        if not entries:
            raise NotFound("no-such-model", f"No registered model is called {name!r}", remedy="see fednode model list")
        return entries


def _next_of(pieces: "Iterator[Buffer]") -> bytes:
    """About PIECE_BYTES of the pieces together: many small tensors are not worth a thread each. Empty at the end."""
    taken = bytearray()
    while len(taken) < PIECE_BYTES and (piece := next(pieces, None)) is not None:
        taken += piece
    return bytes(taken)


def _entry(model: Json) -> dict[str, str]:
    """By which entry of the registry a model was asked for."""
    if not model["name"]:
        return {}
    aliases = {"fednode_aliases": ",".join(model["aliases"])} if model["aliases"] else {}
    return {"fednode_name": model["name"], "fednode_version": str(model["version"]), **aliases}
