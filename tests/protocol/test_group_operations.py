"""Single operations: what is well formed (docs/protocol.md §1 and §2)."""

import msgpack
import pytest
from group_helpers import ANN, BOB, NOW, new_group, say
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused, RemoteProtocolError
from protocol.group.operation_kinds import GroupCreate, RunPropose
from protocol.group.operations import Operation, open_operation, sign_operation
from protocol.keys import GroupId, Hash, public_key_of
from protocol.limits import OPERATION_BYTES_MAX
from protocol.signing import Envelope
from protocol.wire import pack, pack_plain

GROUP = new_group()
FIRST = next(iter(GROUP))
PROPOSAL = RunPropose(manifest=b"manifest")


def body(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "group": GROUP.group,
        "parents": (FIRST.hash,),
        "previous": FIRST.hash,
        "kind": "run.propose",
        "critical": False,
        "payload": pack(PROPOSAL),
        "claimed_at": NOW,
    }
    return {**fields, **changes}


def signed(**changes: object) -> bytes:
    raw = pack_plain(body(**changes))
    signature = ANN.key.sign(b"fednode/operation/1\n" + raw)
    return pack(Envelope(t="operation", v=1, b=raw, k=public_key_of(ANN.key), s=signature))


def test_an_operation_says_what_it_is():
    """§2.1: group, parents, previous, kind, critical, payload, claimed time, under its author's signature."""
    operation = open_operation(signed())
    assert operation.author == ANN.node_id
    assert operation.body == Operation(**body())
    assert operation.payload == PROPOSAL
    assert operation.dependencies == (FIRST.hash,)
    assert operation.group == GROUP.group


def test_the_first_operation_names_the_group():
    """§2.2: the group's id is the hash of its creation."""
    assert FIRST.group == FIRST.hash == GROUP.group


@pytest.mark.parametrize(
    "changes",
    [
        {"parents": ()},
        {"group": ""},
        {"kind": "group.create"},
        {"parents": ("f" * 64, "0" * 64)},
        {"parents": ("0" * 64, "0" * 64)},
        {"parents": tuple(f"{n:064x}" for n in range(65))},
        {"parents": ("F" * 64,)},
        {"parents": ("x",)},
        {"previous": "00"},
        {"kind": "Run.Propose"},
        {"kind": "run.propose\n"},
        {"kind": ""},
        {"claimed_at": -1},
        {"claimed_at": 1.5},
        {"claimed_at": 10**18},
        {"critical": 1},
        {"payload": b""},
        {"payload": pack(GroupCreate(name="x", certificate=ANN.certificate, nonce=bytes(16)))},
        {"payload": pack(PROPOSAL) + b"\0"},
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object]):
    """§2.2, §2.12: an operation that is not exactly of its form never enters a log."""
    with pytest.raises(RemoteProtocolError):
        open_operation(signed(**changes))


@pytest.mark.parametrize("changes", [{"group": GROUP.group}, {"parents": (FIRST.hash,)}, {"previous": FIRST.hash}])
def test_a_creation_stands_alone(changes: dict[str, object]):
    """§2.2: `group.create` has no group, no parents and no previous one."""
    creation = {
        "kind": "group.create",
        "group": "",
        "parents": (),
        "previous": "",
        "payload": pack(GroupCreate(name="study", certificate=ANN.certificate, nonce=bytes(16))),
    }
    open_operation(signed(**creation))
    with pytest.raises(RemoteProtocolError):
        open_operation(signed(**{**creation, **changes}))


def test_a_group_is_created_by_the_node_that_its_certificate_names():
    """§3.4: else somebody could make Bob the founder of a group that he never heard of."""
    payload = GroupCreate(name="study", certificate=BOB.certificate, nonce=bytes(16))
    raw = sign_operation(ANN.key, payload, group=GroupId(""), parents=(), previous=Hash(""), claimed_at=NOW)
    with pytest.raises(RemoteProtocolError, match="other than its certificate names"):
        open_operation(raw)


def test_size_is_bounded():
    """§2.1: at most OPERATION_BYTES_MAX, and that much."""
    log = GROUP.copy()
    assert say(log, ANN, RunPropose(manifest=bytes(OPERATION_BYTES_MAX - 1024))).raw
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        open_operation(signed(payload=pack(RunPropose(manifest=bytes(OPERATION_BYTES_MAX)))))
    with pytest.raises(Refused, match="more than an operation may have"):
        say(log, ANN, RunPropose(manifest=bytes(OPERATION_BYTES_MAX)))
    assert len(log) == 2


def test_an_unknown_kind_is_well_formed():
    """§2.10: its payload is opaque."""
    operation = open_operation(signed(kind="run.extend-2", payload=b"\xc1 whatever"))
    assert operation.payload is None
    assert operation.body.kind == "run.extend-2"


def reencodings(raw: bytes) -> list[bytes]:
    envelope = msgpack.unpackb(raw)
    body_then_rest = {key: envelope[key] for key in ("b", "t", "v", "k", "s")}
    wide_version = raw.replace(b"\xa1v\x01", b"\xa1v\xcc\x01")
    return [
        msgpack.packb(body_then_rest),
        wide_version,
        b"\xde\x00\x05" + raw[1:],  # the map's size in 16 bits
        b"\x86" + raw[1:] + b"\xa1v\x01",  # a field twice
    ]


@pytest.mark.parametrize("which", range(4))
def test_a_second_encoding_is_refused(which: int):
    """§1.4: else whoever passes an operation on could make a fork, or a second run, of it."""
    raw = signed()
    other = reencodings(raw)[which]
    assert other != raw
    assert msgpack.unpackb(other) == msgpack.unpackb(raw)
    with pytest.raises(RemoteProtocolError, match="canonical"):
        open_operation(other)


@given(st.data())
def test_damage_is_refused(data: st.DataObject):
    """§1.3: a flipped bit anywhere, a cut anywhere, a byte more."""
    raw = signed()
    place = data.draw(st.integers(0, len(raw) - 1))
    flipped = bytearray(raw)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), raw[:place], raw + b"\0"):
        with pytest.raises(RemoteProtocolError):
            open_operation(damaged)
