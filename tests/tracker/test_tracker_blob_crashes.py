"""No half blob under a final name: whoever is killed when, and whoever else writes the same one meanwhile."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from protocol.errors import FednodeError
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs import blobs as blobs_module
from tracker.blobs.blobs import LONE_LIST_S, BlobStore
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of
from tracker.durable import write_atomically

KILLS = 25
CHUNKS = 3
BLOBS = 4

# Stores, receives, reads through and deletes the same few blobs again and again, as another process does.
WRITER = """
import random, sys
from pathlib import Path
from protocol.errors import FednodeError
from protocol.limits import CHUNK_BYTES
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of

store, lot = BlobStore(Path(sys.argv[1])), random.Random(int(sys.argv[2]))
contents = [random.Random(seed).randbytes(CHUNKS * CHUNK_BYTES - 7) for seed in range(BLOBS)]
print("begun", flush=True)
while True:
    data = lot.choice(contents)
    hashes = chunk_hashes_of(data)
    blob = blob_id_of(hashes, len(data))
    try:
        turn = lot.random()
        if turn < 0.4:
            half = store.receive(blob, hashes, len(data))
            for index in half.missing():
                half.write_chunk(index, data[index * CHUNK_BYTES :][:CHUNK_BYTES])
            half.finish()
        elif turn < 0.7:
            store.put(data)
        elif turn < 0.85:
            store.discard(blob, 1e12)
        else:
            store.delete(blob)
    except FednodeError as error:
        print("refused", error.what, flush=True)
    print("done", flush=True)
""".replace("CHUNKS", str(CHUNKS), 1).replace("BLOBS", str(BLOBS), 1)


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(CHUNKS * CHUNK_BYTES - 7)


@pytest.mark.real
def test_two_processes_that_write_the_same_blobs_and_are_killed_leave_nothing_half(tmp_path: Path) -> None:
    lot, done, known = random.Random(11), 0, {chunk: content(chunk) for chunk in range(BLOBS)}
    names = {blob_id_of(chunk_hashes_of(data), len(data)): data for data in known.values()}
    for turn in range(KILLS):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(2 * turn + number)], stdout=subprocess.PIPE, text=True
            )
            for number in range(2)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "begun\n"
            for _ in range(lot.randrange(1, 6)):
                told = lot.choice(writers).stdout
                assert told is not None
                done += told.readline() == "done\n"
        finally:
            for writer in writers:
                writer.kill()
            for writer in writers:
                writer.communicate()
        for path in (tmp_path / "whole").iterdir():
            if (blob := BlobId(path.name)) in names:
                assert path.read_bytes() == names[blob], "what has its final name is whole"
            else:
                assert path.name.endswith(".chunks") or path.name.startswith(".new-")
    assert done > KILLS / 2
    store = BlobStore(tmp_path)
    for blob, data in names.items():
        assert store.put(data) == blob
        if not store.has(blob):
            continue
        store.verify(blob)
        assert store.open(blob).read() == data
    assert not list((tmp_path / "new").iterdir())


def test_a_blob_that_lost_its_list_is_fetched_again_for_nothing(tmp_path: Path) -> None:
    """A crash, or another process, may take the list; the bytes are all there."""
    data = content(1)
    hashes, store = chunk_hashes_of(data), BlobStore(tmp_path)
    blob = store.put(data)
    (tmp_path / "whole" / f"{blob}.chunks").write_bytes(b"".join(hashes)[:-5])  # torn
    with pytest.raises(FednodeError, match="damaged"):
        store.open(blob)
    assert not store.has(blob)
    half = store.receive(blob, hashes, len(data))
    assert half.missing() == []
    half.finish()
    assert store.open(blob).read() == data


def test_a_list_alone_means_nothing_and_goes(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    blob = blob_id_of(chunk_hashes_of(content(1)), len(content(1)))
    young, old = tmp_path / "whole" / f"{blob}.chunks", tmp_path / "whole" / f"{'0' * 64}.chunks"
    kept = store.put(content(2))
    for path in (young, old, tmp_path / "whole" / f"{kept}.chunks"):
        path.touch()
    os.utime(old, (1000, 1000))
    os.utime(tmp_path / "whole" / f"{kept}.chunks", (1000, 1000))
    assert not store.has(blob)
    assert store.blobs() == [kept]
    BlobStore(tmp_path)
    assert young.exists(), f"another process may be about to name its blob: it gets {LONE_LIST_S} s"
    assert not old.exists()
    assert (tmp_path / "whole" / f"{kept}.chunks").exists()


def test_what_was_set_aside_does_not_pass_for_what_was_received(tmp_path: Path) -> None:
    """A blob comes in; meanwhile it is stored from here, found damaged, and set aside in the place of what came in."""
    data = content(1)
    hashes, store = chunk_hashes_of(data), BlobStore(tmp_path)
    blob = blob_id_of(hashes, len(data))
    half = store.receive(blob, hashes, len(data))
    for index in range(CHUNKS):
        half.write_chunk(index, data[index * CHUNK_BYTES :][:CHUNK_BYTES])
    store.put(data)
    with store.path(blob).open("r+b") as file:
        file.seek(CHUNK_BYTES + 1)
        file.write(b"damage")
    with pytest.raises(FednodeError, match="damaged"):
        store.verify(blob)
    with pytest.raises(FednodeError, match="receive it again"):
        half.finish()
    assert not store.has(blob)
    again = store.receive(blob, hashes, len(data))
    assert again.missing() == [1]
    with pytest.raises(FednodeError, match="receive it again"):
        half.finish()
    again.write_chunk(1, data[CHUNK_BYTES : 2 * CHUNK_BYTES])
    again.finish()
    assert store.open(blob).read() == data


def test_deleting_while_another_thread_stores_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just between a list's name and its blob's the blob is deleted."""
    data, store = content(3), BlobStore(tmp_path)
    blob = store.put(data)
    store.delete(blob)
    deleting = threading.Thread(target=store.delete, args=(blob,))

    def written(path: Path, raw: bytes) -> None:
        write_atomically(path, raw)
        deleting.start()
        deleting.join(0.5)  # where it may, it is through long before

    monkeypatch.setattr(blobs_module, "write_atomically", written)
    store.put(data)
    deleting.join()
    if store.has(blob):
        assert store.open(blob).read() == data, "a blob has its list"
    else:
        assert not list((tmp_path / "whole").iterdir())
