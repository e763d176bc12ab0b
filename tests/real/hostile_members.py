"""What somebody tries who was let in: a member, an observer, and a member that was put out. Each has keys of its own.

As in hostile_strangers each attack says in a word what came of it; here `INSIDE` and `OUTSIDE_AGAIN` have what is
expected. What no attack may change is looked at by Scene.facts.
"""

import os
import time
from contextlib import ExitStack, suppress

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_person import Ear, Person, control, rpc
from hostile_scene import Scene
from hostile_strangers import MALFORMED
from hostile_wire import DATA, GOSSIP_PROTOCOL, MULTISTREAM, SYN, Closed, Muxed, frame, line
from libp2p.pubsub.pb import rpc_pb2

from node.membership.group_keys import KEY_CHANNEL, HandedKey
from node.membership.groups import PRESENCE_CHANNEL, SYNC_CHANNEL
from node.network.bulk.wire import LIST, REFUSED, pack_answer, pack_request
from node.network.links import RUN_CHANNEL
from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL
from protocol.entrance.messages import Introduce
from protocol.errors import Refused
from protocol.group.address_record import AddressRecord, make_address_record
from protocol.group.key import GroupKey
from protocol.group.operation_kinds import MemberRemove, RunPropose
from protocol.group.operations import sign_operation
from protocol.group.presence import Capacity, Presence, announce
from protocol.group.sync import SyncMessage
from protocol.keys import Hash
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.messages import Heartbeat, PreVoteRequest, ReadyMessage, VoteRequest
from protocol.wire import pack

OVERRUN_CONNECTIONS, OVERRUN_MEGABYTES = 5, 20
STREAMS, FLOOD_PER_S, FLOOD_S = 400, 400, 2.0
MANY_TOPICS, MANY_MESSAGES = 5000, 5000


def _shut_out(scene: Scene, person: Person) -> str:
    """Whether the node lets `person` in at all."""
    try:
        with person.inside(scene.door) as muxed:
            muxed.open(CONTROL_PROTOCOL)
    except Closed:
        return "shut out"
    return "still in"


def _is_answered(muxed: Muxed) -> bool:
    """Whether the node still reads what we say on its control protocol: a ping gets its answer."""
    nonce = os.urandom(8)
    muxed.open(CONTROL_PROTOCOL).tell(control("ping", nonce))
    return muxed.pump_until(
        lambda: CONTROL_PROTOCOL in muxed.opened_by_node and nonce in muxed.opened_by_node[CONTROL_PROTOCOL].heard()
    )


def _told(scene: Scene, person: Person, *frames: bytes) -> str:
    """Say `frames` on one control stream; what happens to it, where anything does, or else that nothing does."""
    with person.inside(scene.door) as muxed:
        try:
            stream = muxed.open(CONTROL_PROTOCOL)
            for each in frames:
                stream.tell(each)
            if not _is_answered(muxed):
                return "not answered"
        except Closed:
            return "hung up on"
        return "reset" if stream.is_over else "ignored"


# --- control frames --------------------------------------------------------------------------------------------
def malformed_control_frames(scene: Scene) -> str:
    """One after the other, each on a stream of its own, until the node has had enough."""
    chris = scene.member("chris")
    bodies = [*MALFORMED.values(), msgpack.packb(["no channel", b""]), msgpack.packb(["sync", b"\xc1"])]
    with chris.inside(scene.door) as muxed:
        try:
            for body in bodies:
                stream = muxed.open(CONTROL_PROTOCOL)
                stream.tell(frame(body))
                assert stream.how_it_ends() != "nothing", body[:40]
        except Closed:
            return _shut_out(scene, chris)
    return _shut_out(scene, chris)


def a_control_frame_of_four_gigabytes(scene: Scene) -> str:
    with scene.member("dan").inside(scene.door) as muxed:
        stream = muxed.open(CONTROL_PROTOCOL)
        stream.tell(frame(b"", 2**32 - 1))
        return stream.how_it_ends()


def a_frames_body_byte_by_byte(scene: Scene) -> str:
    """A frame of 4 MiB of which one byte comes now and then; the connection's other streams are answered."""
    with scene.member("ed").inside(scene.door) as muxed:
        stream = muxed.open(CONTROL_PROTOCOL)
        stream.tell(frame(b"", FRAME_BYTES_MAX))
        for _ in range(10):
            stream.tell(b"\x92")
        return "waited for" if _is_answered(muxed) and not stream.is_over else "not answered"


def bytes_without_end(scene: Scene) -> str:
    """Far more than Yamux's window on a stream of which the node reads no further than its first line; on several
    connections, none of which has more than one may have."""
    fay = scene.member("fay")
    with ExitStack() as open_ones:
        wires = [open_ones.enter_context(fay.inside(scene.door)) for _ in range(OVERRUN_CONNECTIONS)]
        for muxed in wires:
            with suppress(Closed):
                stream = muxed.new_stream()
                stream.tell(line(MULTISTREAM)[:-1])
                for _ in range(OVERRUN_MEGABYTES):
                    stream.tell(bytes(1024 * 1024))
        assert all(muxed.is_hung_up() for muxed in wires)
    return _shut_out(scene, fay)


def streams_without_end(scene: Scene) -> str:
    with scene.member("gil").inside(scene.door) as muxed:
        try:
            for _ in range(STREAMS):
                muxed.new_stream()
        except Closed:
            return "hung up on"
        return "hung up on" if muxed.is_hung_up() else "nothing"


def a_yamux_frame_too_long(scene: Scene) -> str:
    with scene.member("hal").inside(scene.door) as muxed:
        muxed.header(DATA, SYN, 1, 2**32 - 1, bytes(1000))
        return "hung up on" if muxed.is_hung_up() else "nothing"


def what_the_node_said_said_back(scene: Scene) -> str:
    """The node's own control frames, word for word, three times over."""
    ina = scene.member("ina")
    with ina.inside(scene.door) as muxed:
        assert _is_answered(muxed)
        recorded = muxed.opened_by_node[CONTROL_PROTOCOL].heard()
    return _told(scene, ina, recorded * 3)


def a_runs_aggregator_by_its_own_word(scene: Scene) -> str:
    """Heartbeats, votes and ready notes of a term to come for the run that goes on, by one outside its roster."""
    run, term = scene.run, 10**6
    beat = Heartbeat(run=run, term=term, committed_round=10**6, committed="ab" * 32, opened=True, states="")
    asked = PreVoteRequest(run=run, term=term, stored_term=term, stored_round=10**6)
    vote = VoteRequest(run=run, term=term, stored_term=term, stored_round=10**6)
    ready = ReadyMessage(run=run, ready=os.urandom(400))
    return _told(
        scene, scene.member("jon"), *[control(RUN_CHANNEL, pack(each)) for each in (beat, asked, vote, ready)] * 2
    )


def a_key_that_nobody_announced(scene: Scene) -> str:
    """A group key for an epoch of which the log says nothing."""
    handed = HandedKey(group=scene.group, epoch=4_000_000, sealed=os.urandom(80))
    return _told(scene, scene.member("kim"), control(KEY_CHANNEL, pack(handed)))


def a_sync_of_forged_operations(scene: Scene) -> str:
    """Operations of others with their signatures altered, one of another group, and a removal that only admins may
    say."""
    lea = scene.member("lea")
    forged = [each.raw[:-64] + os.urandom(64) for each in lea.log]
    removal = sign_operation(
        lea.key,
        MemberRemove(member=scene.member_id_of(scene.alpha), reason="for nothing"),
        group=scene.group,
        parents=lea.log.heads(),
        previous=Hash(""),
        claimed_at=int(time.time()),
    )
    message = SyncMessage(
        group=scene.group, opens=True, digest=Hash("0" * 64), holds=lea.log.heads(), operations=(*forged, removal)
    )
    return _told(scene, lea, control(SYNC_CHANNEL, pack(message)))


def a_presence_in_anothers_name(scene: Scene) -> str:
    """Beta at an address of ours, signed by us."""
    max_ = scene.member("max")
    return _told(scene, max_, control(PRESENCE_CHANNEL, _presence(scene, max_)))


def others_blobs(scene: Scene) -> str:
    """The run's newest model, and its checkpoint, by one who is not in its roster."""
    row = scene.alpha.client.rounds(scene.run)["rounds"][-1]
    answers = set()
    with scene.member("ned").inside(scene.door) as muxed:
        stream = muxed.open(BLOB_PROTOCOL)
        for blob in (row["model"], row["checkpoint"], "ab" * 32):
            stream.tell(frame(pack_request(LIST, 1, blob)))
            answers.add(stream.hear_frame())
    return "refused" if answers == {pack_answer(REFUSED, 1)} else repr(answers)


# --- gossip ----------------------------------------------------------------------------------------------------
def _presence(scene: Scene, person: Person) -> bytes:
    """A presence of beta's, so new that it would replace all that beta says from now on, and where to find beta."""
    where = AddressRecord(
        node_id=scene.beta.node_id,  # type: ignore[arg-type]
        addresses=("/ip4/127.0.0.1/tcp/9",),
        entrance_addresses=(),
        sequence=2**62,
    )
    return announce(
        person.key,
        Presence(
            node_id=scene.beta.node_id,  # type: ignore[arg-type]
            group=scene.group,
            name="not beta",
            version="6.6.6",
            where=make_address_record(person.key, where),
            capacity=Capacity(cpu_cores=1, memory_bytes=1, memory_free_bytes=1, disk_free_bytes=1),
            runs=(),
            data_sets=0,
            announced_at=int(time.time()),
            sequence=2**62,
        ),
    )


def gossip_that_is_false(scene: Scene) -> str:
    """Under the group's key and GossipSub's signature: a presence in beta's name, what was recorded, operations with
    other signatures; then under keys of no epoch, of another group's topic, in another's name, and with no seal."""
    oli = scene.member("oli")
    with Ear(oli, scene.door) as ear:
        assert ear.listen_until(lambda: ear.topics, 10)
        (topic,) = ear.topics
        forged = next(iter(oli.log)).raw[:-64] + os.urandom(64)
        plain = [b"p" + _presence(scene, oli), b"o" + forged, b"o", b"", b"x" + os.urandom(100)]
        sealed = [oli.sealed(topic, each) for each in plain] + [data for _, data in ear.heard]
        sealed += [oli.sealed(topic, plain[0], GroupKey(9, os.urandom(32))), oli.sealed("/other", plain[0])]
        messages = [oli.message(topic, data) for data in [*sealed, os.urandom(100), b""]]
        messages += [oli.message(topic, sealed[0], author=Ed25519PrivateKey.generate()), oli.message("/other", b"?")]
        ear.gossip.tell(b"".join(rpc(publish=[message]) for message in messages))
        return "ignored" if _is_answered(ear.muxed) else "not answered"


def malformed_gossip(scene: Scene) -> str:
    """Bytes that are no RPC, and one that is longer than any may be."""
    pat = scene.member("pat")
    ends = set()
    for body in (b"\x05\xff\xff\xff\xff\xff", b"\xff\xff\xff\x7f" + bytes(1000), b"\xff" * 20):
        try:
            with pat.inside(scene.door) as muxed:
                stream = muxed.open(GOSSIP_PROTOCOL)
                stream.tell(body)
                ends.add(stream.how_it_ends(5))
        except Closed:
            ends.add("shut out")
    return "no stream left" if "nothing" not in ends else repr(ends)


def a_flood_of_gossip(scene: Scene) -> str:
    """400 messages a second, well signed, with nothing in them; topics and names of messages by the thousand."""
    quin = scene.member("quin")
    with Ear(quin, scene.door) as ear:
        assert ear.listen_until(lambda: ear.topics, 10)
        (topic,) = ear.topics
        subscriptions = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{number}") for number in range(MANY_TOPICS)]
        offered = [os.urandom(16) for _ in range(MANY_MESSAGES)]
        try:
            ear.gossip.tell(rpc(subscriptions=subscriptions))
            have = rpc_pb2.ControlIHave(topicID=topic, messageIDs=offered)
            ear.gossip.tell(rpc(control=rpc_pb2.ControlMessage(ihave=[have])))
            begun = time.monotonic()
            for number in range(int(FLOOD_PER_S * FLOOD_S)):
                ear.gossip.tell(rpc(publish=[quin.message(topic, os.urandom(200))]))
                while time.monotonic() < begun + number / FLOOD_PER_S:
                    ear.muxed.pump(0.01)
        except Closed:
            return "hung up on"
    return "borne"


# --- an observer -----------------------------------------------------------------------------------------------
def an_observer_proposes_a_run(scene: Scene) -> str:
    """In good form, signed, at its place in the log: only its role forbids it."""
    rose = scene.member("rose", role="observer")
    manifest = next(each.payload for each in rose.log if isinstance(each.payload, RunPropose))
    proposal = sign_operation(
        rose.key,
        manifest,
        group=scene.group,
        parents=rose.log.heads(),
        previous=Hash(""),
        claimed_at=int(time.time()),
    )
    message = SyncMessage(
        group=scene.group, opens=True, digest=Hash("0" * 64), holds=rose.log.heads(), operations=(proposal,)
    )
    return _told(scene, rose, control(SYNC_CHANNEL, pack(message)))


INSIDE = {
    a_control_frame_of_four_gigabytes: "reset",
    a_frames_body_byte_by_byte: "waited for",
    a_yamux_frame_too_long: "hung up on",
    streams_without_end: "hung up on",
    what_the_node_said_said_back: "ignored",
    a_runs_aggregator_by_its_own_word: "ignored",
    a_key_that_nobody_announced: "ignored",
    a_sync_of_forged_operations: "ignored",
    a_presence_in_anothers_name: "reset",
    others_blobs: "refused",
    an_observer_proposes_a_run: "ignored",
    malformed_control_frames: "shut out",
}
GOSSIP = {
    gossip_that_is_false: "ignored",
    malformed_gossip: "no stream left",
    a_flood_of_gossip: "borne",
}
MEMORY = {bytes_without_end: "shut out"}


# --- one who was put out ---------------------------------------------------------------------------------------
def the_removed_at_the_door(scene: Scene) -> str:
    """With the node key that was let in an hour ago."""
    return _shut_out(scene, scene.mallory)


def the_removed_at_the_entrance(scene: Scene) -> str:
    """With the log as it was, in which it is a member."""
    operations = tuple(each.raw for each in scene.mallory.log)
    return scene.mallory.knock(scene.entrance, Introduce(group=scene.group, operations=operations, last=True))


def the_removed_with_its_old_invitation(scene: Scene) -> str:
    """The invitation that let it in, which has uses left, used by the rules once more."""
    try:
        scene.mallory.join(scene.token, scene.entrance, scene.alpha.node_id)
    except Refused as refused:
        return f"refused: {refused.code}"
    return "let in"


OUTSIDE_AGAIN = {
    the_removed_at_the_door: "shut out",
    the_removed_at_the_entrance: "refused: removed",
    the_removed_with_its_old_invitation: "refused: removed",
}
