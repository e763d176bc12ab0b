"""Taking in what a task made: only plain files of its own folder, within bounds, into the blobs and the record."""

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import node.record.artifact_keeper as keeper_module
from node.home.disk import FileDisk
from node.record.artifact_keeper import ArtifactKeeper
from node.record.record import StoreRecord, open_record
from node.run.chronicle import Chronicle, Numbers
from node.seams import StagedFile, TaskOutput
from node.training.staged_files import Staging, take_in
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId, RunId
from tracker.tables.rows import LogRow

RUN, ME = RunId("ab" * 32), NodeId("12D3KooWMe")


# --- files of a folder where anybody may have put anything -------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "session"
    made.mkdir()
    (tmp_path / "secret").write_text("secret")
    return made


def test_a_file_goes_through_and_is_gone(folder, tmp_path):
    staging = Staging(folder)
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    names = [staging.put(b"small"), staging.put(tmp_path / "large"), staging.put(b"")]
    assert take_in(folder, names[0], 100, tmp_path) == b"small"
    copy = take_in(folder, names[1], 3_000_000, tmp_path)
    assert isinstance(copy, Path)
    assert copy.parent == tmp_path
    assert copy.read_bytes() == b"x" * 3_000_000
    assert take_in(folder, names[2], 0, None) == b""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "artifact-1/../../secret",
        "artifact-x",
        "artifact-1\n",
        "",
        ".",
        "update",
        "artifact-",
    ],
)
def test_only_staged_names_are_opened(folder, name):
    with pytest.raises(RemoteProtocolError, match="not what a staged file is called"):
        take_in(folder, name, 100, None)


def test_links_pipes_sockets_and_folders_are_not_read(folder, tmp_path):
    (folder / "artifact-1").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "artifact-2")  # whoever opened it for reading would wait for a writer
    (folder / "artifact-3").mkdir()
    os.link(tmp_path / "secret", folder / "artifact-4")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "artifact-5"))
        (folder / "artifact-6").symlink_to("/dev/zero")
        for number in range(1, 8):  # the last is not there
            with pytest.raises(RemoteProtocolError):
                take_in(folder, f"artifact-{number}", 100, None)
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_folder_that_became_a_link_is_not_followed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "artifact-1").write_text("secret")
    folder.rmdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(RemoteProtocolError, match="folder is gone"):
        take_in(folder, "artifact-1", 100, None)
    assert (elsewhere / "artifact-1").exists()


@pytest.mark.parametrize("into_memory", [True, False])
def test_a_file_that_is_or_becomes_too_large_is_not_taken(folder, tmp_path, monkeypatch, into_memory):
    (folder / "artifact-1").write_bytes(b"x" * 101)
    with pytest.raises(FednodeError, match="it has 101 bytes, and 100 may be kept"):
        take_in(folder, "artifact-1", 100, None)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    growing = folder / "artifact-2"
    growing.write_bytes(b"x" * 2_000_000)
    read = os.read

    def read_and_grow(file: int, size: int) -> bytes:
        with growing.open("ab") as more:
            more.write(b"y" * 1_000_000)
        return read(file, size)

    monkeypatch.setattr(os, "read", read_and_grow)
    with pytest.raises(FednodeError, match="10,000,000 may be kept"):
        take_in(folder, "artifact-2", 10_000_000, None if into_memory else scratch)
    assert list(scratch.iterdir()) == []


# --- keeping -----------------------------------------------------------------------------------------------------
class Ground:
    """A keeper on a real disk and a real record."""

    def __init__(self, record: StoreRecord, disk: FileDisk, folder: Path) -> None:
        self.record, self.disk = record, disk
        self.staging = Staging(folder)
        self.folder = folder
        self.said: list[LogRow] = []
        self.keeper = self.another()

    def another(self) -> ArtifactKeeper:
        """As after a restart of the node."""

        def changed(kind: str, rows: tuple[Any, ...]) -> None:
            self.said += [row for row in rows if isinstance(row, LogRow)]

        chronicle = Chronicle(RUN, ME, self.record, now=lambda: 7.0, sequence=Numbers(lambda: 7.0), changed=changed)

        async def offload(work: Callable[[], Any]) -> Any:
            return await trio.to_thread.run_sync(work)

        return ArtifactKeeper(chronicle, self.disk, offload)

    async def keep(self, name: str, content: bytes | Path, round_number: int = 1, **changes: str) -> None:
        file = changes.get("file") or self.staging.put(content)
        staged = StagedFile(file, "file", changes.get("details", "{}"))
        await self.keeper.keep(TaskOutput("artifact", name=name, staged=staged, round=round_number), self.folder)

    async def rows(self) -> list[dict[str, Any]]:
        await self.record.flush()
        return await self.record.query("artifacts", run_id=RUN)


def grounded(tmp_path: Path, test: Callable[[Ground], Awaitable[None]]) -> None:
    async def main() -> None:
        record = await open_record(tmp_path / "store.duckdb")
        disk = FileDisk(tmp_path / "home")
        try:
            await test(Ground(record, disk, tmp_path / "session"))
        finally:
            await record.close()
            disk.close()

    trio.run(main)


def test_what_is_kept_is_in_the_record_and_among_the_blobs(tmp_path):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3_000_000))

    async def test(ground: Ground) -> None:
        await ground.keep("a.txt", b"first", details='{"of": 1}')
        await ground.keep("large", large, round_number=2)
        await ground.keep("a.txt", b"second", round_number=3)
        second, first = await ground.rows()  # by their rounds
        assert (first["name"], first["round"], first["bytes"], first["details"]) == ("a.txt", 3, 6, {})
        assert await ground.disk.read_blob(BlobId(first["blob"])) == b"second"
        assert (second["name"], second["kind"], second["node_id"], second["node_name"]) == ("large", "file", ME, "")
        assert await ground.disk.read_blob(BlobId(second["blob"])) == large.read_bytes()
        assert ground.keeper.holds(second["blob"])
        assert not ground.keeper.holds("cd" * 32)
        scratch = ground.disk.scratch()
        assert scratch is not None
        assert [*scratch.iterdir(), *ground.folder.iterdir()] == []
        assert ground.said == []

    grounded(tmp_path, test)


def test_names_and_files_that_lead_elsewhere_are_left_out(tmp_path):
    (tmp_path / "secret").write_text("secret")

    async def test(ground: Ground) -> None:
        ground.folder.mkdir()
        (ground.folder / "artifact-77").symlink_to(tmp_path / "secret")
        for name in ("../up", "/etc/cron.d/x", "a\nb", "", "x" * 1000):
            await ground.keep(name, b"x")
        await ground.keep("linked", b"", file="artifact-77")
        await ground.keep("up", b"", file="../secret")
        assert await ground.rows() == []
        assert {row.level for row in ground.said} == {"WARNING"}
        assert all("is left out" in row.message and len(row.message) < 300 for row in ground.said)

    grounded(tmp_path, test)


def test_number_and_bytes_are_bounded_over_restarts_too_and_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper_module, "ARTIFACTS_MAX", 3)
    monkeypatch.setattr(keeper_module, "RUN_BYTES_MAX", 100)

    async def test(ground: Ground) -> None:
        for number in range(6):
            await ground.keep(f"{number}", b"%d" % number)
        assert [row["name"] for row in await ground.rows()] == ["0", "1", "2"]
        assert [row.message for row in ground.said] == ["artifacts beyond 3 are left out, the first of them '3'"]
        ground.keeper = ground.another()
        await ground.keep("new", b"new")
        await ground.keep("1", b"y" * 90)
        for _ in range(3):
            await ground.keep("2", b"z" * 90)
        assert [(row["name"], row["bytes"]) for row in await ground.rows()] == [("0", 1), ("1", 90), ("2", 1)]
        assert [row.message for row in ground.said[1:]] == [
            "artifacts beyond 3 are left out, the first of them 'new'",
            "the artifact '2' is left out: it has 90 bytes, and 7 may be kept",
        ]

    grounded(tmp_path, test)


def test_a_disk_that_takes_nothing_costs_the_artifact_alone(tmp_path):
    async def test(ground: Ground) -> None:
        async def put_blob(source: bytes | Path) -> BlobId:
            raise FednodeError("The disk is full", remedy="make room")

        ground.disk.put_blob = put_blob  # type: ignore[method-assign]
        await ground.keep("a", b"x")
        assert await ground.rows() == []
        assert [row.message for row in ground.said] == ["the artifact 'a' is left out: The disk is full"]

    grounded(tmp_path, test)


def test_a_blob_that_cannot_be_read_back_costs_the_artifact_alone(tmp_path):
    async def test(ground: Ground) -> None:
        async def open_blob(blob: BlobId) -> Any:
            raise FednodeError("The disk could not read the blob", remedy="look at the disk")

        ground.disk.open_blob = open_blob  # type: ignore[method-assign]
        await ground.keep("a", b"x")
        assert await ground.rows() == []
        assert [row.message for row in ground.said] == [
            "the artifact 'a' is left out: The disk could not read the blob"
        ]

    grounded(tmp_path, test)
