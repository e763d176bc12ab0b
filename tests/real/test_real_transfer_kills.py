"""Either side of a transfer is killed again and again at random points of it: it resumes, and nothing is left behind.

Two processes, the real network, real disks. Who is killed first is drawn for each two stretches of kills, so that the
other lives long enough to show a leak; when, is drawn for each kill: after so many chunks have come.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from protocol.limits import CHUNK_BYTES
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of_data, is_blob_id

KILLS, MORE_KILLS = 20, 100  # half of them each way
CHUNKS = 24
KILLS_EACH = 3  # of each transfer, at most: several lives have to put it together
DEADLINE_S = 60.0  # of waiting for one line: a machine may be busy, and a dial may have to time out
LEAK_MAX = 3  # descriptors or tasks more than at first; gossip may not have met yet. A leak is one for two kills
SETTLE_S = 5.0  # until what a dead peer left is cleared away

Json = dict[str, Any]


class Side:
    """One side over all of its lives."""

    def __init__(
        self, name: str, key: int, base: Path, mother: IO[str], listener: socket.socket, blocked: bool
    ) -> None:
        self.name = name
        self.home = base / name
        self.node_id = ""
        self.addresses: list[str] = []
        self._order = json.dumps({"home": str(self.home), "key": key, "blocked": blocked})
        self._mother = mother
        self._listener = listener
        self._first: Json = {}  # what it had open and going on between the first transfers of its life
        self._pid = 0
        self._connection: socket.socket
        self._unread = b""

    def start(self) -> None:
        self._mother.write(self._order + "\n")
        self._mother.flush()
        self._connection, _ = self._listener.accept()
        self._unread, self._first = b"", {}
        up = self.hear()
        self.node_id, self.addresses, self._pid = up["up"], up["addresses"], up["pid"]

    def kill(self) -> list[Json]:
        """Give what it said before it died."""
        os.kill(self._pid, signal.SIGKILL)
        with suppress(ConnectionResetError):  # it dies with an order that it has not read
            while more := self._connection.recv(65_536):
                self._unread += more
        self._connection.close()
        return [json.loads(line) for line in self._unread.split(b"\n")[:-1]]

    def say(self, **order: object) -> None:
        self._connection.sendall(json.dumps(order).encode() + b"\n")

    def hear(self) -> Json:
        """The next line, whatever it says."""
        while b"\n" not in self._unread:
            more = self._connection.recv(65_536)
            assert more, f"{self.name} has ended"
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        told: Json = json.loads(line)
        return told

    def check_leaks(self) -> None:
        """Between transfers: no more descriptors and tasks than after the first one in this life."""
        until = time.monotonic() + SETTLE_S
        while more := self._more_than_at_first():
            assert time.monotonic() < until, more

    def _more_than_at_first(self) -> str:
        self.say(count=True)
        told = self.hear()
        self._first = self._first or told
        descriptors = told["descriptors"] - self._first["descriptors"]
        tasks, first = Counter(told["tasks"]), Counter(self._first["tasks"])
        if max(descriptors, tasks.total() - first.total()) <= LEAK_MAX:
            return ""
        more = f"{descriptors} descriptors and {tasks.total() - first.total()} tasks more than at first"
        return f"{self.name} has {more}, among them {tasks - first}"

    def check_files(self) -> None:
        """What has a final name is whole, whatever happened."""
        for path in (self.home / "blobs" / "whole").iterdir():
            if is_blob_id(path.name):
                assert blob_id_of_data(path) == path.name

    def end(self) -> None:
        self.kill()
        BlobStore(self.home / "blobs")  # as the next start would, which removes what a killed writer left
        left = [path for folder in ("new", "half") for path in (self.home / "blobs" / folder).iterdir()]
        assert not left, f"{self.name} has left {left}"
        assert not list((self.home / "blobs" / "whole").glob(".*"))
        self.check_files()


class Story:
    """Transfers from one side to the other, during which one of them is killed."""

    def __init__(self, taker: Side, giver: Side) -> None:
        self._lot = random.Random(5)
        self._taker = taker
        self._giver = giver
        self.kills = {taker.name: 0, giver.name: 0}
        self.ways: set[str] = set()
        self._victims: list[Side] = []  # of the next stretches of kills
        self._stretch = 1
        self._victim = taker
        self._came = 0

    def run(self, kills: int, stretch: int) -> None:
        self._stretch = stretch
        self._taker.start()
        self._giver.start()
        self._introduce()
        number = 0
        while sum(self.kills.values()) < kills:
            number += 1
            self._transfer(number)
        self._taker.end()
        self._giver.end()

    def _transfer(self, number: int) -> None:
        source = self._giver.home.parent / "source"
        source.write_bytes(self._lot.randbytes(CHUNKS * CHUNK_BYTES - number))
        self._giver.say(put=str(source))
        blob, self._came = self._giver.hear()["put"], 0
        self._fetch(blob)
        moments = sorted(self._lot.randrange(CHUNKS - 4) for _ in range(self._lot.randrange(1, KILLS_EACH + 1)))
        told = next((told for moment in moments if (told := self._one_life(blob, moment))), None)
        told = told or self._until_whole(blob, CHUNKS)
        assert told is not None
        self.ways.add(told["way"])
        size = source.stat().st_size
        assert self._came <= size, "what had come was not fetched again"
        assert self._came > size / 2, "the count would mean nothing"
        assert (self._taker.home / "blobs" / "whole" / blob).read_bytes() == source.read_bytes()
        for side in (self._taker, self._giver):
            side.check_leaks()

    def _one_life(self, blob: str, moment: int) -> Json | None:
        """Until so many chunks have come, then somebody is killed; what was told where the blob was whole before."""
        if told := self._until_whole(blob, moment):
            return told
        if sum(self.kills.values()) % self._stretch == 0:
            self._victims = self._victims or self._lot.sample([self._taker, self._giver], 2)
            self._victim = self._victims.pop()
        self.kills[self._victim.name] += 1
        self._came += sum(said.get("came", 0) for said in self._victim.kill())
        self._victim.check_files()
        self._victim.start()
        self._introduce()
        if self._victim is self._taker:
            self._fetch(blob)
        return None

    def _until_whole(self, blob: str, chunks: int) -> Json | None:
        """Go on until the blob is whole, and give what was told of it; or None when so many chunks have come."""
        while chunks == CHUNKS or self._came < chunks * CHUNK_BYTES:
            told = self._taker.hear()
            self._came += told.get("came", 0)
            if "whole" in told:
                return told
            if "failed" in told:  # the other side was down just now
                self._fetch(blob)
        return None

    def _introduce(self) -> None:
        self._taker.say(learn=self._giver.node_id, addresses=self._giver.addresses)

    def _fetch(self, blob: str) -> None:
        self._taker.say(fetch=blob, source=self._giver.node_id)


def played(base: Path, kills: int, stretch: int, *, blocked: bool) -> Story:
    place = str(base / "told")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        listener.settimeout(DEADLINE_S)
        mother = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("transfer_peer.py"), place], stdin=subprocess.PIPE, text=True
        )
        assert mother.stdin is not None
        try:
            socket.setdefaulttimeout(DEADLINE_S)
            sides = [
                Side(name, key, base, mother.stdin, listener, blocked) for key, name in enumerate(("taker", "giver"))
            ]
            story = Story(*sides)
            story.run(kills, stretch)
        finally:
            socket.setdefaulttimeout(None)
            mother.kill()
            mother.wait()
            mother.stdin.close()
    return story


@pytest.mark.parametrize("blocked", [False, True], ids=["tls", "port-blocked"])
@pytest.mark.parametrize(
    ("kills", "stretch"), [(KILLS // 2, 5), pytest.param(MORE_KILLS // 2, 10, marks=pytest.mark.slow)]
)
def test_a_transfer_whose_sides_are_killed_goes_on_where_it_was(
    kills: int, stretch: int, blocked: bool, tmp_path: Path
) -> None:
    story = played(tmp_path, kills, stretch, blocked=blocked)
    assert sum(story.kills.values()) >= kills
    assert all(story.kills.values()), "both had their turn"
    assert story.ways == {"libp2p" if blocked else "tls"}
