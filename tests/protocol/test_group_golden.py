"""The bytes of every signed thing and message of membership, as they were first released (docs/protocol.md §1 to §5).

A difference here means that nodes of two versions no longer understand each other, or that old logs change their
meaning. Run this file as a program (with PYTHONPATH=.) to write them anew, if they were never released.
"""

import json
from pathlib import Path

import msgpack
import pytest
from group_helpers import (
    ANN,
    BOB,
    CAT,
    GROUP_KEY,
    NOW,
    WEEK,
    address_record,
    admission,
    admit,
    bind,
    new_group,
    post,
    say,
    secret,
)

from protocol.entrance.invitation import TokenBody, make_token, open_token
from protocol.entrance.messages import (
    Admitted,
    Ask,
    Challenge,
    Hello,
    Introduce,
    LogPart,
    Proof,
    Refusal,
    Welcome,
    open_entrance_message,
)
from protocol.fields import NodeAddresses
from protocol.group.key import commitment_of, open_gossip, open_sealed, seal_gossip, seal_to, seal_to_all
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import (
    PAYLOADS,
    InviteRevoke,
    KeyRotate,
    MemberLeave,
    MemberProfile,
    MemberRemove,
    MemberRole,
    NodeRevoke,
    RulingWitness,
    RunExtend,
    RunPropose,
    RunResume,
    RunStart,
    RunStop,
)
from protocol.group.operations import open_operation
from protocol.group.presence import Capacity, Presence, PresenceBook, announce
from protocol.group.sync import SyncMessage, SyncSession
from protocol.identity import make_revocation, open_certificate
from protocol.keys import GroupId, Hash, RunId
from protocol.limits import EPOCH_STEP
from protocol.wire import pack, pack_plain, unpack

FILE = Path(__file__).with_name("group_golden.json")
ADDRESSES = (NodeAddresses(node_id=ANN.node_id, addresses=("/ip4/192.0.2.7/tcp/4001",), entrance_addresses=()),)


def a_log() -> GroupLog:
    """Every kind of operation once."""
    log = new_group()
    invite_id, seed = post(log, uses=2)
    say(log, ANN, admission(log, BOB, invite_id, seed))
    say(log, ANN, InviteRevoke(invite_id=invite_id))
    bind(log, type(ANN)("ann-2", member="ann"), by=ANN)
    run = RunId(say(log, BOB, RunPropose(manifest=b"manifest")).hash)
    say(log, BOB, RunStart(run=run, start=b"start"))
    stop = say(log, ANN, RunStop(run=run, reason="enough"))
    say(log, ANN, RunResume(run=run, stop=stop.hash, checkpoint=stop.hash))
    say(log, ANN, RunExtend(run=run, rounds=20))
    return log


def a_later_log() -> GroupLog:
    """What a group came to know later: removals, departures, roles, keys."""
    log = new_group(name="later")
    for person in (BOB, CAT):
        admit(log, person)
    say(log, ANN, MemberRole(member=BOB.member_id, role="observer"))
    say(log, ANN, MemberRemove(member=BOB.member_id, reason="left the study"))
    say(log, CAT, MemberLeave())
    sealed = seal_to_all(
        {ANN.node_id: open_certificate(ANN.certificate).seal_key},
        GROUP_KEY,
        log.group,
        ephemeral_secrets=[secret("e")],
    )
    say(log, ANN, KeyRotate(epoch=EPOCH_STEP, commitment=commitment_of(GROUP_KEY), sealed=sealed))
    return log


def a_newest_log() -> GroupLog:
    """What came after that: revocations of nodes, profiles, witnesses."""
    log = new_group(name="newest")
    second = type(ANN)("ann-2", member="ann")
    bind(log, second, by=ANN)
    say(log, ANN, NodeRevoke(revocation=make_revocation(ANN.member_key, second.node_id, issued_at=NOW)))
    say(log, ANN, MemberProfile(name="Ann", organisation="St. Mary", contact=""))
    say(log, ANN, RulingWitness())
    return log


def operations() -> dict[str, bytes]:
    later = {f"operation {operation.body.kind}": operation.raw for operation in (*a_newest_log(), *a_later_log())}
    return later | {f"operation {operation.body.kind}": operation.raw for operation in a_log()}


def entrance() -> dict[str, bytes]:
    hash_, sealed = (
        Hash("0" * 64),
        seal_to(open_certificate(BOB.certificate).seal_key, GROUP_KEY, GroupId(""), ephemeral_secret=secret("e")),
    )
    messages = (
        Hello(group=GroupId(hash_), invite_id=hash_, certificate=BOB.certificate),
        Challenge(nonce=secret("nonce")),
        Proof(signature=bytes(range(64))),
        LogPart(operations=(b"one", b"two")),
        Admitted(operations=(b"three",), epoch=1, sealed_key=sealed, known=(address_record(ANN),)),
        Introduce(group=GroupId(hash_), operations=(b"one",), last=True),
        Ask(holds=(hash_,)),
        Welcome(),
        Refusal(code="used-up", what="It is used up", remedy="ask again"),
    )
    return {f"entrance {message.type}": pack(message) for message in messages}


def others() -> dict[str, bytes]:
    log = a_log()
    token = TokenBody(
        group=bytes.fromhex(log.group),
        group_name="study",
        invite=secret("invite"),
        seed=secret("seed"),
        role="member",
        uses=1,
        expires_at=NOW + WEEK,
        entrances=ADDRESSES,
    )
    presence = Presence(
        node_id=BOB.node_id,
        group=log.group,
        name="bob-node",
        version="0.1.0",
        where=address_record(BOB, ("/ip4/192.0.2.8/tcp/4001",), ()),
        capacity=Capacity(
            cpu_cores=2, memory_bytes=3, memory_free_bytes=2, disk_free_bytes=1, gpus=("H100",), load_1m=0.5
        ),
        runs=(),
        data_sets=1,
        announced_at=NOW,
        sequence=7,
    )
    return {
        "later log": pack_plain({"operations": [operation.raw for operation in a_later_log()]}),
        "newest log": pack_plain({"operations": [operation.raw for operation in a_newest_log()]}),
        "certificate": ANN.certificate,
        "token": make_token(ANN.key, token).encode(),
        "presence": announce(BOB.key, presence),
        "sync": pack(SyncSession(log).open().model_copy(update={"operations": (b"one",)})),
        "sealed group key": seal_to(
            open_certificate(BOB.certificate).seal_key, GROUP_KEY, log.group, ephemeral_secret=secret("e")
        ),
        "gossip": seal_gossip(GROUP_KEY, log.group, "operations", b"hello", nonce=bytes(12)),
    }


def everything() -> dict[str, bytes]:
    return operations() | entrance() | others()


GOLDEN: dict[str, str] = json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_as_they_were(name: str):
    assert everything()[name].hex() == GOLDEN[name]


def test_every_kind_is_there():
    """§2.12: what a kind's payload is stays for ever."""
    assert set(GOLDEN) == set(everything())
    assert {f"operation {kind}" for kind in PAYLOADS} <= set(GOLDEN)


def test_the_old_bytes_are_understood():
    """§3.1: an old log gives the state that it always gave; each old message is still read."""
    golden = {name: bytes.fromhex(data) for name, data in GOLDEN.items()}
    group = open_operation(golden["operation group.create"]).group
    log = GroupLog(group)
    for name, raw in golden.items():
        if name.startswith("operation") and open_operation(raw).group == group:
            log.add(raw)
    state = log.state()
    assert log.missing() == ()
    assert not state.refused
    assert [(member.name, member.role, len(member.nodes)) for member in state.members.values()] == [
        ("ann", "admin", 2),
        ("bob", "member", 1),
    ]
    assert [(entry.used, entry.revoked) for entry in state.invitations.values()] == [(1, True)]
    (run,) = state.runs.values()
    assert (run.manifest, run.start, run.stop, len(run.resumed), run.rounds) == (b"manifest", b"start", None, 1, 20)
    for name, raw in golden.items():
        if name.startswith("entrance"):
            assert open_entrance_message(raw).type == name.removeprefix("entrance ")
    assert unpack(SyncMessage, golden["sync"], 10_000).group == group
    assert open_token(golden["token"].decode(), now=NOW).group == group
    assert PresenceBook(group).hear(golden["presence"], state, now=0.0).sequence == 7
    assert open_sealed(BOB.seal_secret, golden["sealed group key"], group, 1) == GROUP_KEY
    assert open_gossip({1: GROUP_KEY}, group, "operations", golden["gossip"]) == b"hello"
    later = GroupLog(open_operation(golden["operation member.leave"]).group)
    for raw in msgpack.unpackb(golden["later log"])["operations"]:
        later.add(raw)
    state = later.state()
    assert [member.name for member in state.members.values()] == ["ann"]
    assert [(each.was.name, each.was.role, each.removed) for each in state.former.values()] == [
        ("bob", "observer", True),
        ("cat", "member", False),
    ]
    assert state.good_epochs() == (EPOCH_STEP,)
    assert not state.refused
    newest = GroupLog(open_operation(golden["operation node.revoke"]).group)
    for raw in msgpack.unpackb(golden["newest log"])["operations"]:
        newest.add(raw)
    (member,) = newest.state().members.values()
    assert (member.name, member.organisation, len(member.nodes)) == ("Ann", "St. Mary", 1)
    assert len(newest.state().revoked) == 1
    assert CAT.node_id not in log.state().nodes
    assert admit(log, CAT).author == ANN.node_id


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: raw.hex() for name, raw in everything().items()}, indent=1) + "\n")
