"""Looks at a home, and at the node that runs there, for what goes wrong in practice: `fednode doctor`.

What can be told from the files alone is told of a stopped node too. Everything here only looks.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from node.home.doctor_checks import (
    Check,
    ClockReading,
    Peer,
    State,
    blobs_check,
    clock_check,
    copies_check,
    disk_check,
    listening_check,
    local_network_check,
    passphrase_check,
    reach_check,
    store_check,
    told_apart,
    version_check,
)
from node.home.home import RECORD
from node.home.key_files import (
    HOME_KEY,
    KEY_FILE_BYTES_MAX,
    KEY_FILES,
    check_key_file,
    check_place,
    is_protected,
    key_in_pem,
    not_a_key,
    secret_files,
)
from node.home.sealing import is_sealed
from node.network.addresses import machine_hosts
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.version import PROTOCOL_VERSION
from tracker.durable import disk_errors
from tracker.journal import check_inside, scan_records

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from node.node import Node

Json = dict[str, Any]

CLOCK_QUESTION = "clock"
CLOCK_BYTES_MAX = 32  # milliseconds since 1970, in decimal
CLOCK_DEADLINE_S = 5.0  # half of it is how unsure the slowest answer may leave us
CLOCK_MEMBERS_MAX = 9  # asked at once, a node of each: four would have to lie together
JOURNAL_BYTES_MAX = 256 * 1024 * 1024  # read through, newest first: a second of one core
_KEYS_IN_PEM = frozenset(name.partition(".")[0] for name in KEY_FILES)
ROUNDS_AHEAD = 10  # for which the disk should have room
MODELS_A_ROUND = 3  # a round stores the model, its difference, and at the aggregator updates under way
REACHED_MAX = 100  # nodes told of one by one, those in trouble first


# --- the home alone --------------------------------------------------------------------------------------------
def home_checks(home: Path) -> list[Check]:
    """What the files say, whether a node runs there or not. It blocks."""
    return [_keys_check(home), _place_check(home), _passphrase_check(home), _journals_check(home)]


def stopped_checks(home: Path) -> list[Check]:
    """All that can be told while no node runs at `home`. It blocks."""
    if not home.is_dir():
        return [Check("node", "wrong", f"there is no home at {home}", "start a node there, or name another --home")]
    begin = Check(
        "node",
        "warning",
        "the node is stopped, so its clock, its addresses and who can be reached are not known",
        f"fednode start --detach --home {home}",
    )
    place = _place_check(home)
    if not os.access(home, os.R_OK | os.X_OK):
        return [begin, place]
    free = shutil.disk_usage(home).free
    return [begin, *home_checks(home), disk_check(free, 0), _stopped_store_check(home)]


def _keys_check(home: Path) -> Check:
    files = [*secret_files(home), *([home / HOME_KEY] if is_protected(home) else [])]
    for path in files:
        try:
            check_key_file(path)
            _check_is_key(path)
        except FednodeError as error:
            return Check("keys", "wrong", error.what, error.remedy)
    if not files:
        return Check("keys", "warning", "there are no keys yet", "start the node once, or fednode key import a backup")
    return Check("keys", "ok", f"{len(files)} files with keys are their owner's alone")


def _check_is_key(path: Path) -> None:
    """Raise FednodeError for a key in clear that is none. One under a passphrase shows only when that opens it."""
    if path.name.partition(".")[0] not in _KEYS_IN_PEM:
        return
    with disk_errors(f"read the key {path}"), path.open("rb") as file:
        raw = file.read(KEY_FILE_BYTES_MAX)
    if is_sealed(raw):
        return
    try:
        key_in_pem(raw)
    except ValueError as error:
        raise not_a_key(path, str(error)) from None


def _place_check(home: Path) -> Check:
    try:
        check_place(home)
    except Refused as refused:
        return Check("home", "wrong", refused.what, refused.remedy)
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        return Check("home", "warning", f"others can look into {home} (mode {mode:04o})", f"chmod 700 {home}")
    return Check("home", "ok", f"{home} is its owner's alone")


def _passphrase_check(home: Path) -> Check:
    try:
        sealed = {path.name: is_sealed(path.read_bytes()) for path in secret_files(home)}
    except OSError as error:
        return Check("passphrase", "wrong", f"a key cannot be read ({error.strerror})", "see that it belongs to you")
    return passphrase_check(is_protected(home), sealed)


def _journals_check(home: Path) -> Check:
    """Cheap: checksums, of the newest journals first, and no more than a second's worth."""
    left, read = JOURNAL_BYTES_MAX, 0
    try:
        paths = sorted(_files_in(home / "journals"), key=_changed_at, reverse=True)
        for path in paths:
            left -= path.stat().st_size
            if left < 0:
                break
            raw = path.read_bytes()
            check_inside(raw, scan_records(raw)[1], path.name)
            read += 1
    except OSError as error:
        what = f"a journal cannot be read ({error.strerror})"
        return Check("journals", "wrong", what, "see that the disk works, and that the home belongs to you")
    except FednodeError as error:
        return Check("journals", "wrong", error.what, error.remedy)
    if read < len(paths):
        return Check("journals", "ok", f"the newest {read} of {len(paths)} are whole; fednode store check reads all")
    return Check("journals", "ok", f"all {read} are whole" if paths else "there are none yet")


def _files_in(folder: Path) -> Iterator[Path]:
    """All, however deep. Raises OSError where a folder cannot be looked into."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir():
            yield from _files_in(path)
        else:
            yield path


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime


def _stopped_store_check(home: Path) -> Check:
    from tracker.store import open_stopped  # DuckDB

    path = home / RECORD
    if not path.exists():
        return Check("store", "ok", "there is no record yet")
    try:
        open_stopped(path).close()
    except FednodeError as error:
        return store_check(0, f"{error.what}; {error.remedy}")
    return store_check(_record_bytes(path), "")


def _record_bytes(path: Path) -> int:
    from tracker.copies import bytes_of  # DuckDB

    return bytes_of(path)


# --- the running node ------------------------------------------------------------------------------------------
class Doctor:
    """Of a running node."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def look(self) -> Json:
        """{"checks": [{"name", "state", "text", "remedy"}]}, as docs/api.md has it."""
        node = self._node
        checks = [Check("node", "ok", f"{node.identity.name} runs, as process {node.pid}")]
        if node.home:
            checks += await node.trainer.offload(partial(home_checks, Path(node.home)))
        peers = self._peers()
        checks.append(disk_check(node.capacity().disk_free_bytes, await self._needed()))
        stored = sum(entry.bytes for entry in await node.disk.stored_blobs())
        checks.append(blobs_check(stored, node.limits.quota.bytes_max))
        checks.append(await self._store_check())
        checks.append(copies_check(node.copies.trouble))
        checks.append(clock_check(await self._clocks()))
        others = [address for peer in peers for address in peer.addresses]
        ours, machine = node.network.addresses(), await node.trainer.offload(machine_hosts)
        checks.append(listening_check(ours, others, machine))
        nearby = node.local_network
        checks.append(local_network_check(nearby is not None, nearby.trouble if nearby else "", ours))
        checks.append(version_check(node.version, PROTOCOL_VERSION, peers, self._too_old_for()))
        checks += self._group_checks()
        checks += _first_reached(reach_check(peer) for peer in peers)
        return {"checks": [asdict(check) for check in checks]}

    async def tell_time(self, peer: NodeId, request: bytes) -> "AsyncGenerator[bytes, None]":
        """Another node's question how late it is here: milliseconds since 1970."""
        if request:
            raise RemoteProtocolError(f"{peer} asks for the time and says more")
        yield str(int(self._node.now() * 1000)).encode()

    # --- the clock -----------------------------------------------------------------------------------------------
    async def _clocks(self) -> list[ClockReading]:
        """The clocks of one connected node of each member, asked all at once."""
        chosen: dict[str, NodeId] = {}
        for peer in sorted(self._node.groups.connected):
            chosen.setdefault(self._node.groups.member_of(peer), peer)
        readings: list[ClockReading] = []

        async def read(member: str, peer: NodeId) -> None:
            reading = await self._clock_of(member, peer)
            if reading is not None:
                readings.append(reading)

        async with trio.open_nursery() as nursery:
            for member, peer in list(chosen.items())[:CLOCK_MEMBERS_MAX]:
                nursery.start_soon(read, member, peer)
        return sorted(readings, key=lambda reading: reading.name)

    async def _clock_of(self, member: str, peer: NodeId) -> ClockReading | None:
        node = self._node
        asked_at, answer = trio.current_time(), b""
        with trio.move_on_after(CLOCK_DEADLINE_S):
            try:
                answers = node.questions.ask(peer, CLOCK_QUESTION, b"", bytes_max=CLOCK_BYTES_MAX, is_at_hand=True)
                async with aclosing(answers) as frames:
                    async for frame in frames:
                        answer = frame
                        break
            except FednodeError:  # who does not answer is told of by its reach
                return None
        took = trio.current_time() - asked_at
        if not answer.isdigit() or len(answer) > CLOCK_BYTES_MAX // 2:
            return None
        # It looked at its clock some time between our question and its answer: in the middle, give or take.
        ahead = int(answer) / 1000 - (node.now() - took / 2)
        return ClockReading(member, self._name_of(peer), ahead, took / 2)

    # --- nodes ---------------------------------------------------------------------------------------------------
    def _name_of(self, peer: NodeId) -> str:
        entries = (place.state().nodes.get(peer) for place in self._node.groups.places.values())
        return next((entry.name for entry in entries if entry is not None), peer)

    def _peers(self) -> list[Peer]:
        from node.api.views import peers_view

        kept, views = self._node.groups.neighbours.wanted(), peers_view(self._node)
        names = [view["name"] for view in views]
        for view in views:
            view["name"] = told_apart(view["name"], view["node_id"], names)
        return [self._peer(view, view["node_id"] in kept) for view in views if not view["self"]]

    def _peer(self, view: Json, kept: bool) -> Peer:
        node, peer = self._node, NodeId(view["node_id"])
        failure = None if view["connected"] else node.links.failure(peer)
        return Peer(
            name=view["name"] or peer,
            node_id=peer,
            version=view["version"],
            connected=view["connected"],
            kept=kept,
            path=view["link"]["path"],
            addresses=view["addresses"],
            failure=failure.what if failure else "",
            tried=failure.tried if failure else (),
            refused=failure is not None and failure.refused,
            apart=node.network.trouble(peer) or self._shut(peer),
            away=self._away(peer),
        )

    def _shut(self, peer: NodeId) -> str:
        shut = any(peer in place.shut_at and place.admits(peer) for place in self._node.groups.places.values())
        told = "it does not let this node in any more; nothing by itself, see what is said of the group"
        return told if shut and peer not in self._node.groups.connected else ""

    def _away(self, peer: NodeId) -> str:
        heard = [last for place in self._node.groups.places.values() if (last := place.book.last(peer)) is not None]
        if not heard:
            return ""
        seconds = trio.current_time() - max(last.heard_at for last in heard)
        if seconds < 60:
            return "less than a minute"
        return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"

    def _too_old_for(self) -> list[str]:
        return [place.state().name for place in self._node.groups.places.values() if place.is_too_old]

    def _group_checks(self) -> list[Check]:
        """That our own member has revoked this node; groups that we were put out of, or whose entrances say so. What
        one has left by oneself is no trouble."""
        from node.membership.memberships import out_remedy, out_text, turned_away_text

        what, _, remedy = self._node.siblings.trouble.partition("; ")
        checks = [Check("node", "wrong", what, remedy)] if what else []
        for place in self._node.groups.places.values():
            former = place.out()
            has_left = former is not None and not former.removed and not former.void
            if (former is not None and not has_left) or (former is None and place.revoked() is not None):
                checks.append(Check("group", "warning", out_text(place), out_remedy(place)))
            elif text := turned_away_text(place):
                checks.append(Check("group", "warning", text, out_remedy(place)))
        return checks

    # --- the disk ------------------------------------------------------------------------------------------------
    async def _needed(self) -> int:
        """What the runs that go on will put on the disk within the next rounds, in bytes."""
        total = 0
        for known in self._node.runs.active():
            head = known.ledger.newest if known.ledger is not None else None
            if head is None:
                continue
            try:
                size = (await self._node.disk.open_blob(BlobId(head.model))).size
            except FednodeError:  # not fetched yet
                continue
            total += size * MODELS_A_ROUND * ROUNDS_AHEAD
        return total

    async def _store_check(self) -> Check:
        node = self._node
        try:
            await node.record.query("node_states", newest=1)
        except FednodeError as error:
            return store_check(0, f"{error.what}; {error.remedy}")
        path = Path(node.home) / RECORD if node.home else None
        size = await node.trainer.offload(partial(_record_bytes, path)) if path is not None else 0
        return store_check(size, node.record.trouble)


def _first_reached(checks: Iterable[Check]) -> list[Check]:
    """Those in trouble first, and the rest by number where there are many."""
    in_order = sorted(checks, key=lambda check: check.state == "ok")
    left = in_order[REACHED_MAX:]
    if not left:
        return in_order
    state: State = "warning" if any(check.state != "ok" for check in left) else "ok"
    return [*in_order[:REACHED_MAX], Check("reach", state, f"{len(left)} more nodes", "see fednode peers")]
