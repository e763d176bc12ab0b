"""What a doctor says of what it was told: each check a function of plain facts, so that a table can test it.

A check names what it looked at, says what it found in a sentence, and, unless all is well, what to do.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high, median_low
from typing import Literal

from node.network.dial_words import OFF, REASONS
from node.network.reach import host_and_port, reach_of

State = Literal["ok", "warning", "wrong"]

# Clocks decide when invitations expire, and when things happened that people compare.
CLOCK_WARNING_S = 10.0  # more than machines differ that keep time with a server
CLOCK_WRONG_S = 300.0  # from here on invitations that are good are taken for expired, and the other way round
DISK_WARNING_BYTES = 2 * 1024**3  # logs, the record and a small run go on for weeks
DISK_WRONG_BYTES = 256 * 1024**2  # the next checkpoint of a middling model does not fit
BLOBS_WARNING_SHARE = 0.9  # of the room that blobs may take; a run's next rounds take the rest soon
NAMES_SHOWN = 5  # of nodes, in one sentence
ID_SHOWN = 14  # as fednode peers has it, which lists them all


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """How far ahead of ours the clock of a member's node is, and by how much that may be wrong. In seconds."""

    member_id: str
    name: str
    ahead_s: float
    unsure_s: float


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node of our groups. `failure`: why no link to it can be opened, if that is so, and `tried`: each address
    with what came of it. `apart`: what keeps us apart though it can be reached. `away`: for how long, for people."""

    name: str
    node_id: str
    version: str = ""
    connected: bool = False
    kept: bool = True
    path: str = ""
    addresses: Sequence[str] = ()
    failure: str = ""
    tried: Sequence[str] = ()
    refused: bool = False
    apart: str = ""
    away: str = ""


# --- the clock -------------------------------------------------------------------------------------------------
def clock_check(readings: Iterable[ClockReading]) -> Check:
    """Our clock against the median of the members', one voice each: a member that lies, or is wrong, cannot move it
    far. With one other member nobody can say which of the two is wrong."""
    by_member: dict[str, list[ClockReading]] = {}
    for reading in readings:
        by_member.setdefault(reading.member_id, []).append(reading)
    voices = [min(those, key=lambda reading: reading.unsure_s) for those in by_member.values()]
    if not voices:
        return Check("clock", "ok", "nobody is connected to compare this machine's clock with")
    ahead = _middle([voice.ahead_s for voice in voices])
    unsure = median_high(voice.unsure_s for voice in voices)  # so that one who answers late cannot blur it either
    off = max(0.0, abs(ahead) - unsure)
    told = f"by the median of {len(voices)} other{'s' * (len(voices) > 1)}, known to ± {unsure:.2g} s"
    odd = [voice for voice in voices if abs(voice.ahead_s - ahead) - voice.unsure_s - unsure > CLOCK_WARNING_S]
    if off <= CLOCK_WARNING_S:
        if odd:
            names = _names(f"{voice.name} ({voice.ahead_s:+.0f} s)" for voice in odd)
            return Check(
                "clock",
                "warning",
                f"this machine's clock is right, {told}; other clocks are not: {names}",
                "have their owners let those machines set their clocks by a time server (NTP)",
            )
        return Check("clock", "ok", f"this machine's clock is right, {told}")
    direction = "behind" if ahead > 0 else "ahead"
    remedy = "let this machine set its clock by a time server (NTP): timedatectl set-ntp true"
    if len(voices) == 1:
        direction = "behind" if ahead > 0 else "ahead of"
        return Check(
            "clock",
            "warning",
            f"this machine's clock is {abs(ahead):.0f} s {direction} {voices[0].name}'s; one of them is wrong",
            f"see which, and {remedy}",
        )
    state: State = "wrong" if off > CLOCK_WRONG_S else "warning"
    return Check("clock", state, f"this machine's clock is {abs(ahead):.0f} s {direction}, {told}", remedy)


def _middle(values: Sequence[float]) -> float:
    """The median; of two that are in the middle the one nearer to us, so that half of the members cannot accuse us."""
    low, high = median_low(values), median_high(values)
    return min(low, high, key=abs)


# --- the network -----------------------------------------------------------------------------------------------
def listening_check(ours: Sequence[str], others: Iterable[str], machine: Collection[str] = ()) -> Check:
    """Whether those who are elsewhere can dial us at all. `others`: the addresses of nodes of our groups; `machine`:
    the hosts that this machine has itself, where nobody is elsewhere."""
    if not ours:
        return Check("listening", "wrong", "this node listens nowhere", "restart it; its log says why")
    where = ", ".join(ours)
    if any(reach_of(address) != "machine" for address in ours):
        return Check("listening", "ok", f"this node listens at {where}")
    far = [address for address in others if reach_of(address) not in ("machine", "")]
    if any(host_and_port(address)[0] not in machine for address in far):
        return Check(
            "listening",
            "warning",
            f"this node listens at {where} only, where no other machine reaches it, and others are elsewhere",
            "restart it with --listen 0.0.0.0, and let its two ports through the firewall",
        )
    return Check("listening", "ok", f"this node listens at {where}, for this machine alone")


def local_network_check(on: bool, trouble: str, ours: Iterable[str] = ()) -> Check:
    """Whether members are found on the local network without their address. `ours`: where this node listens."""
    name = "local network"
    if not on:
        return Check(name, "ok", "members are not looked for on the local network, as this node's owner wants it")
    if trouble:
        remedy = "nothing, where members know each other's addresses; else let multicast DNS (UDP 5353) through"
        return Check(name, "warning", f"members on the local network are not found: {trouble}", remedy)
    if all(reach_of(address) == "machine" for address in ours):
        return Check(name, "ok", "nobody on the local network finds this node, which is there for this machine alone")
    return Check(name, "ok", "members on the local network find this node without its address")


def told_apart(name: str, node_id: str, names: Iterable[str]) -> str:
    """What to call a node: with the beginning of its id, where its name is not its alone among `names`."""
    return f"{name} ({node_id[:ID_SHOWN]})" if list(names).count(name) > 1 else name


def reach_check(peer: Peer) -> Check:
    """Whether we and `peer` are connected, and if not, why not."""
    name = "reach"
    if peer.apart:
        what, _, remedy = peer.apart.partition("; ")
        return Check(name, "warning", f"{peer.name}: {what}", remedy or "wait; it is tried again by itself")
    if peer.connected:
        return Check(name, "ok", f"{peer.name}: connected{f', {peer.path}' if peer.path else ''}")
    if not peer.kept:
        return Check(name, "ok", f"{peer.name}: no connection is kept; in large groups others pass its messages on")
    why, remedy = _why_apart(peer)
    away = f", not heard of for {peer.away}" if peer.away else ", never heard of since this node started"
    return Check(name, "warning", f"{peer.name}: not connected{away}; {why}", remedy)


def _why_apart(peer: Peer) -> tuple[str, str]:
    if peer.refused:
        return (
            "it answers, and its door is shut to us: it does not know us yet, or we are out of the group",
            "wait half a minute, for this node introduces itself; else see fednode group show, and ask its owner",
        )
    if not peer.addresses:
        return "no address of it is known", "it is heard of when it starts; else have it join, or be connected, once"
    said = list(peer.tried) or [peer.failure] * bool(peer.failure)
    if not said:
        return f"it is being dialled at {', '.join(peer.addresses)}", "ask again in a moment"
    for pattern, words, remedy in REASONS:
        places = [entry.partition(": ")[0] for entry in said if re.search(pattern, entry, re.IGNORECASE)]
        if places:
            return f"{words} ({_names(places if peer.tried else peer.addresses)})", remedy
    return _names(said), OFF


def copies_check(trouble: str) -> Check:
    """Whether a second node is known to run with our key. `trouble`: what, and after a semicolon what to do."""
    if trouble:
        what, _, remedy = trouble.partition("; ")
        return Check("copies", "wrong", what, remedy)
    return Check("copies", "ok", "no other node is known to run with this node's key")


# --- versions --------------------------------------------------------------------------------------------------
def version_check(ours: str, protocol: int, peers: Iterable[Peer], too_old_for: Sequence[str]) -> Check:
    """`too_old_for`: groups that use what this version does not know."""
    told = f"fednode {ours}, protocol {protocol}"
    if too_old_for:
        return Check(
            "versions",
            "wrong",
            f"{told}: too old for {_names(too_old_for)}, where something is used that it does not know",
            "upgrade fednode on this machine",
        )
    others = [f"{peer.name} has {peer.version}" for peer in peers if peer.version and peer.version != ours]
    if others:
        return Check(
            "versions", "warning", f"{told}; {_names(others)}", "run the same version everywhere when you next can"
        )
    return Check("versions", "ok", told)


# --- the disk --------------------------------------------------------------------------------------------------
def disk_check(free: int, needed: int) -> Check:
    """`needed`: what the runs that go on will take within their next rounds, in bytes."""
    told = f"{_size(free)} are free where the home lies"
    if free < max(DISK_WRONG_BYTES, needed):
        more = f", and the runs that go on need {_size(needed)} soon" if needed > DISK_WRONG_BYTES else ""
        return Check(
            "disk",
            "wrong",
            f"only {told}{more}",
            "make room, or keep less: fednode store retention, then fednode store prune",
        )
    if free < DISK_WARNING_BYTES + needed:
        return Check("disk", "warning", f"only {told}", "make room soon, or keep less: fednode store retention")
    return Check("disk", "ok", told)


def blobs_check(used: int, most: int | None) -> Check:
    """`most`: how much room the owner gives blobs, in bytes."""
    if most is None:
        return Check("blobs", "ok", f"models, updates and artifacts take {_size(used)}")
    told = f"models, updates and artifacts take {_size(used)} of the {_size(most)} that they may"
    if used < most * BLOBS_WARNING_SHARE:
        return Check("blobs", "ok", told)
    left = "no update or model comes in" if used >= most else "the next model may not come in"
    raise_it = "raise the limit (fednode limits --blobs-max), or keep less: fednode store retention, fednode blobs gc"
    return Check("blobs", "warning", f"{told}: {left}", raise_it)


def store_check(size: int, trouble: str) -> Check:
    """`trouble`: what keeps the record from being read or written; a remedy may follow a semicolon."""
    if trouble:
        what, _, remedy = trouble.partition("; ")
        return Check("store", "wrong", what, remedy or "see fednode store check")
    return Check("store", "ok", f"the record can be read, and has {_size(size)}")


# --- keys ------------------------------------------------------------------------------------------------------
def passphrase_check(protected: bool, sealed: Mapping[str, bool]) -> Check:
    """`sealed`: of each file with secrets, whether it is under the passphrase."""
    clear = [name for name, is_sealed in sealed.items() if not is_sealed]
    if not sealed:
        return Check("passphrase", "ok", "there is nothing yet for a passphrase to protect")
    if not protected:
        what = "no passphrase: whoever can copy the keys is this node; fednode key protect puts them under one"
        return Check("passphrase", "ok", what)
    if clear:
        return Check(
            "passphrase",
            "warning",
            f"there is a passphrase, and yet these lie in clear: {_names(clear)}",
            "restart the node, which puts them under it",
        )
    return Check("passphrase", "ok", "all keys are under a passphrase")


def _names(all_of_them: Iterable[str]) -> str:
    names = list(all_of_them)
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
