"""The register of data sets: what is taken in, what is refused and why, and that it survives."""

import csv
import os
import zipfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
import trio
from blake3 import blake3

import node.data.files
from node.data.datasets import REGISTER, DataSets
from node.home.disk import FileDisk
from protocol.errors import FednodeError, Refused


async def at_once(work):
    await trio.lowlevel.checkpoint()
    return work()


def noon() -> datetime:
    return datetime(2026, 11, 21, 12, tzinfo=UTC)


async def opened(home: Path) -> DataSets:
    register = DataSets(FileDisk(home), at_once, noon)
    await register.load()
    return register


def go(home: Path, test: Callable[[DataSets], Awaitable[None]]) -> None:
    async def main() -> None:
        await test(await opened(home))

    trio.run(main)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one good file of each kind."""
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    np.savez(folder / "digits.npz", x=np.zeros(3))
    (folder / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    duckdb.sql("select 1 as a").write_parquet(str(folder / "table.parquet"))
    (folder / "deep" / "notes.txt").write_text("hello")
    return folder


@pytest.mark.parametrize(("name", "kind"), [("digits.npz", "npz"), ("table.csv", "csv"), ("table.parquet", "parquet")])
def test_files_are_registered_with_their_fingerprint(tmp_path, data, name, kind):
    async def test(register):
        added = await register.add("mine", str(data / name), {"label": "b"})
        content = (data / name).read_bytes()
        assert (added.kind, added.bytes, added.fingerprint) == (kind, len(content), blake3(content).hexdigest())
        assert (added.path, added.options, added.added_at) == (str(data / name), {"label": "b"}, "2026-11-21T12:00:00Z")
        again = await opened(tmp_path / "home")
        assert again.all() == register.all() == [added]
        assert again.get("mine") == added

    go(tmp_path / "home", test)


def test_a_folders_fingerprint_depends_on_names_and_contents_alone(tmp_path, data):
    async def test(register):
        added = await register.add("folder", str(data))
        assert (added.kind, added.bytes) == ("folder", sum(f.stat().st_size for f in data.rglob("*") if f.is_file()))
        os.utime(data / "table.csv", (0, 0))
        (data / "link").symlink_to(tmp_path)
        assert await register.renewed("folder") == added
        fingerprints = {added.fingerprint}
        (data / "deep" / "notes.txt").rename(data / "notes.txt")
        fingerprints.add((await register.renewed("folder")).fingerprint)
        (data / "notes.txt").write_text("hullo")
        fingerprints.add((await register.renewed("folder")).fingerprint)
        assert len(fingerprints) == 3
        assert (await opened(tmp_path / "home")).get("folder").fingerprint in fingerprints - {added.fingerprint}

    go(tmp_path / "home", test)


def test_removing_forgets_the_name_and_leaves_the_files(tmp_path, data):
    async def test(register):
        await register.add("b", str(data / "table.csv"))
        await register.add("a", str(data))
        assert [entry.name for entry in register.all()] == ["a", "b"]
        await register.remove("b")
        assert (data / "table.csv").exists()
        with pytest.raises(Refused, match="No data set is called 'b'; there are: a"):
            await register.remove("b")
        assert [entry.name for entry in (await opened(tmp_path / "home")).all()] == ["a"]

    go(tmp_path / "home", test)


def spoil_npz(data: Path) -> Path:
    (data / "digits.npz").write_bytes(b"not a zip")
    return data / "digits.npz"


def empty_zip(data: Path) -> Path:
    with zipfile.ZipFile(data / "empty.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return data / "empty.npz"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(data: Path) -> Path:
        (data / name).write_bytes(content)
        return data / name

    return write


def empty_folder(data: Path) -> Path:
    (data / "empty").mkdir()
    return data / "empty"


def pipe(data: Path) -> Path:
    os.mkfifo(data / "pipe.csv")
    return data / "pipe.csv"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda data: data / "missing.csv", "no-such-path"),
        (lambda data: Path("~nobody-here/x.csv"), "no-such-path"),
        (spoil_npz, "damaged-data"),
        (empty_zip, "damaged-data"),
        (written("zero.csv", b""), "damaged-data"),
        (written("blank.csv", b"\n1,2\n"), "damaged-data"),
        (written("latin.csv", "naïve,b\n".encode("latin-1")), "damaged-data"),
        (written("binary.csv", b"a,b\0\n"), "damaged-data"),
        (written("short.parquet", b"PAR1"), "damaged-data"),
        (written("cut.parquet", b"PAR1" + bytes(100)), "damaged-data"),
        (written("model.pkl", b"x"), "unknown-kind"),
        (empty_folder, "no-data"),
        (pipe, "no-file"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path, data, make, code):
    async def test(register):
        with pytest.raises(Refused) as refusal:
            await register.add("mine", str(make(data)))
        assert refusal.value.code == code
        assert register.all() == []

    go(tmp_path / "home", test)


def test_a_long_header_cut_within_a_character_is_still_text(tmp_path):
    table = tmp_path / "wide.csv"
    header = "a" * (node.data.files.HEAD_BYTES - 1) + "é"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow([header])

    async def test(register):
        assert (await register.add("wide", str(table))).kind == "csv"

    go(tmp_path / "home", test)


def test_what_cannot_be_read_is_refused(tmp_path, data, monkeypatch):
    def fail(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(node.data.files, "_hash_into", lambda _, path: fail(path))

    async def test(register):
        for path in (data, data / "table.csv"):
            with pytest.raises(Refused, match="cannot be read \\(Permission denied\\)") as refusal:
                await register.add("mine", str(path))
            assert refusal.value.code == "unreadable"

    go(tmp_path / "home", test)


def test_folders_are_bounded(tmp_path, data, monkeypatch):
    monkeypatch.setattr(node.data.files, "FOLDER_FILES_MAX", 3)

    async def test(register):
        with pytest.raises(Refused, match="more than 3 files"):
            await register.add("mine", str(data))

    go(tmp_path / "home", test)


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("", {}, "bad-name"),
        ("../x", {}, "bad-name"),
        ("a" * 81, {}, "bad-name"),
        ("mine", {"x": object()}, "bad-options"),
        ("mine", {"x": float("nan")}, "bad-options"),
        ("mine", {"x": "y" * 20_000}, "bad-options"),
    ],
)
def test_bad_names_and_options_are_refused(tmp_path, data, name, options, code):
    async def test(register):
        with pytest.raises(Refused) as refusal:
            await register.add(name, str(data), options)
        assert refusal.value.code == code

    go(tmp_path / "home", test)


def test_a_name_is_given_once_also_when_two_ask_together(tmp_path, data):
    async def test(register):
        refusals = []

        async def add(path: Path) -> None:
            try:
                await register.add("mine", str(path))
            except Refused as refusal:
                refusals.append(refusal.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, data)
            nursery.start_soon(add, data / "table.csv")
            nursery.start_soon(register.add, "other", str(data))
        assert refusals == ["data-exists"]
        assert [entry.name for entry in (await opened(tmp_path / "home")).all()] == ["mine", "other"]

    go(tmp_path / "home", test)


def test_a_damaged_register_says_so(tmp_path):
    (tmp_path / "home").mkdir()

    async def main() -> None:
        for content in (b"{", b"[1]", b'[{"name": "x"}]'):
            (tmp_path / "home" / REGISTER).write_bytes(content)
            with pytest.raises(FednodeError, match="is damaged"):
                await opened(tmp_path / "home")

    trio.run(main)
