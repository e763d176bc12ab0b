"""What somebody who was never let in tries at a node's door and entrance, and what it gets.

Each attack is a function of the scene that says in a word what came of it; `AT_THE_DOOR` and `AT_THE_ENTRANCE` have the
word that is expected.
"""

import os
from contextlib import suppress

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_person import Person, answer_in
from hostile_scene import Scene
from hostile_wire import (
    DATA,
    MULTISTREAM,
    NOISE,
    SYN,
    YAMUX,
    Closed,
    Muxed,
    Wire,
    frame,
    identity_payload,
    line,
    varint,
)
from libp2p.host.ping import ID as PING_ID
from libp2p.identity.identify.identify import ID as IDENTIFY_ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12

from node.network.questions import QUESTION_PROTOCOL
from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, ENTRANCE_PROTOCOL
from protocol.entrance.messages import Challenge, Hello, Introduce, Proof
from protocol.group.admission import AdmissionStatement, prove
from protocol.group.operation_kinds import MemberAdmit
from protocol.keys import Hash, public_key_of
from protocol.limits import ENTRANCE_BYTES_MAX
from protocol.wire import pack

HOARDING_CONNECTIONS = 12
HOUSE_PROTOCOLS = (CONTROL_PROTOCOL, BLOB_PROTOCOL, QUESTION_PROTOCOL, PROTOCOL_ID_V12, IDENTIFY_ID, PING_ID)


# --- at the door, below Noise ----------------------------------------------------------------------------------
def _ends(wire: Wire) -> str:
    return "hung up on" if wire.is_hung_up() else "nothing"


def _said(scene: Scene, data: bytes) -> str:
    with Wire(scene.door) as wire:
        with suppress(Closed):
            wire.tell(data)
        return _ends(wire)


def a_line_of_two_to_the_sixty_third(scene: Scene) -> str:
    """A line of multistream whose declared length is all the memory that there is."""
    return _said(scene, varint(2**63) + bytes(1024))


def an_endless_stream_before_noise(scene: Scene) -> str:
    """More bytes than a handshake has, with no sense."""
    with Wire(scene.door) as wire:
        try:
            wire.select(NOISE)
            for _ in range(64):
                wire.tell(b"\xff\xff" + bytes(65_535))
        except Closed:
            return "hung up on"
        return _ends(wire)


def garbage_for_noise(scene: Scene) -> str:
    with Wire(scene.door) as wire:
        wire.select(NOISE)
        wire.tell(b"\x00\x20" + os.urandom(32) + b"\x00\x40" + os.urandom(64))
        return _ends(wire)


# --- at the door, in Noise -------------------------------------------------------------------------------------
def _handshake(scene: Scene, payload: bytes, said: bytes = b"") -> str:
    with Wire(scene.door) as wire:
        return _third_message(wire, payload, said)


def _third_message(wire: Wire, payload: bytes, said: bytes = b"") -> str:
    state = wire.begin_noise()
    wire.end_noise(state, payload)
    with suppress(Closed):
        wire.tell(line(MULTISTREAM) + line(YAMUX) + said)
    return _ends(wire)


def another_nodes_name(scene: Scene) -> str:
    """A member's public key, with our own signature under our static key."""
    with Wire(scene.door) as wire:
        mine = wire.signature_of(Ed25519PrivateKey.generate())
        return _third_message(wire, identity_payload(scene.key_of(scene.beta), mine))


def another_nodes_signature(scene: Scene) -> str:
    """What beta itself said of itself in a handshake with us, word for word."""
    with Wire(scene.entrance_of(scene.beta)) as recorded:
        recorded.begin_noise()
    return _handshake(scene, recorded.node_payload)


def no_identity(scene: Scene) -> str:
    return _handshake(scene, b"")


def a_padded_identity(scene: Scene) -> str:
    """A signed payload of 60 kB."""
    key = Ed25519PrivateKey.generate()
    with Wire(scene.door) as wire:
        return _third_message(wire, identity_payload(public_key_of(key), wire.signature_of(key), 60_000))


def a_stranger_with_good_manners(scene: Scene) -> str:
    """A whole handshake, and right behind it a Yamux stream with a frame for the control protocol."""
    key, opening = Ed25519PrivateKey.generate(), line(MULTISTREAM) + line(CONTROL_PROTOCOL) + frame(b"let me in")
    with Wire(scene.door) as wire:
        head = bytes([0, DATA, 0, SYN, 0, 0, 0, 1]) + len(opening).to_bytes(4, "big")
        return _third_message(wire, identity_payload(public_key_of(key), wire.signature_of(key)), head + opening)


AT_THE_DOOR = {
    a_line_of_two_to_the_sixty_third: "hung up on",
    an_endless_stream_before_noise: "hung up on",
    garbage_for_noise: "hung up on",
    another_nodes_name: "hung up on",
    another_nodes_signature: "hung up on",
    no_identity: "hung up on",
    a_padded_identity: "hung up on",
    a_stranger_with_good_manners: "hung up on",
}


# --- at the entrance, below its messages -----------------------------------------------------------------------
def the_house_from_the_entrance(scene: Scene) -> str:
    """Every protocol but the entrance's, at the entrance."""
    with Muxed.dial(scene.entrance, Ed25519PrivateKey.generate()) as muxed:
        for protocol in HOUSE_PROTOCOLS:
            try:
                muxed.open(str(protocol))
            except Closed:
                continue
            return f"{protocol} is spoken"
    return "not spoken"


def many_streams(scene: Scene) -> str:
    with Muxed.dial(scene.entrance, Ed25519PrivateKey.generate()) as muxed:
        try:
            for _ in range(64):
                muxed.new_stream()
        except Closed:
            return "hung up on"
        return "hung up on" if muxed.is_hung_up() else "nothing"


def a_yamux_frame_of_four_gigabytes(scene: Scene) -> str:
    with Muxed.dial(scene.entrance, Ed25519PrivateKey.generate()) as muxed:
        muxed.header(DATA, SYN, 1, 2**32 - 1, bytes(1000))
        return "hung up on" if muxed.is_hung_up() else "nothing"


def more_than_an_entrance_takes(scene: Scene) -> str:
    """Bytes without end on one stream, past Yamux's window."""
    with Muxed.dial(scene.entrance, Ed25519PrivateKey.generate()) as muxed:
        stream = muxed.new_stream()
        try:
            for _ in range(4):
                stream.tell(bytes(ENTRANCE_BYTES_MAX))
        except Closed:
            return "hung up on"
        return "hung up on" if muxed.is_hung_up() else "nothing"


def a_frame_of_four_gigabytes(scene: Scene) -> str:
    with Muxed.dial(scene.entrance, Ed25519PrivateKey.generate()) as muxed:
        stream = muxed.open(ENTRANCE_PROTOCOL)
        stream.tell(frame(b"", 2**32 - 1))
        return stream.how_it_ends()


# --- at the entrance, its messages -----------------------------------------------------------------------------
MALFORMED = {
    "no msgpack": b"\xc1",
    "a list of four billion": b"\xdd\xff\xff\xff\xff",
    "a text of four billion bytes": b"\xdb\xff\xff\xff\xff",
    "ten thousand lists, each in the next": b"\x91" * 10_000 + b"\x90",
    "a map of maps": msgpack.packb({"type": {"type": {}}}),
    "keys that are no text": msgpack.packb({1: 2}),
    "an unknown kind": msgpack.packb({"type": "open sesame"}),
    "an unknown field": msgpack.packb({"type": "proof", "signature": bytes(64), "and": 1}),
    "a wrong type": msgpack.packb({"type": "proof", "signature": "x" * 64}),
    "two messages in one": msgpack.packb({"type": "welcome"}) * 2,
    "an answer where a question belongs": pack(Challenge(nonce=bytes(32))),
    "a proof before a challenge": pack(Proof(signature=bytes(64))),
}


def malformed_messages(scene: Scene) -> str:
    """Frames that are none of the entrance's messages, each in a conversation of its own; all on one connection."""
    ends = set()
    with Muxed.dial(scene.entrance, Ed25519PrivateKey.generate()) as muxed:
        for body in MALFORMED.values():
            stream = muxed.open(ENTRANCE_PROTOCOL)
            stream.tell(frame(body))
            ends.add(stream.how_it_ends())
    return " or ".join(sorted(ends))


def _hello(scene: Scene, certificate: bytes, group: str = "", invite_id: str | None = None) -> Hello:
    told = scene.invitation.invite_id if invite_id is None else Hash(invite_id)
    return Hello(group=group or scene.group, invite_id=told, certificate=certificate)  # type: ignore[arg-type]


def a_forged_certificate(scene: Scene) -> str:
    """A certificate of ours in which the member's name was changed after it was signed."""
    eve = Person("evey")
    return eve.knock(scene.entrance, _hello(scene, eve.certificate.replace(b"evey", b"beta")))


def a_certificate_with_spare_bytes(scene: Scene) -> str:
    """The same certificate, encoded another way: an integer in five bytes that has room in one."""
    eve = Person("eve")
    raw = eve.certificate
    at = raw.index(b"\xa1v\x01")
    return eve.knock(scene.entrance, _hello(scene, raw[: at + 2] + b"\xce\0\0\0\1" + raw[at + 3 :]))


def anothers_certificate(scene: Scene) -> str:
    """Beta's, which stands in the log that every member can read."""
    return Person("eve").knock(scene.entrance, _hello(scene, scene.certificate_of(scene.beta), invite_id=""))


def another_group(scene: Scene) -> str:
    eve = Person("eve")
    return eve.knock(scene.entrance, _hello(scene, eve.certificate, group="ab" * 32))


def no_invitation(scene: Scene) -> str:
    """As one more node of somebody who is a member, which eve's member is not."""
    eve = Person("eve")
    return eve.knock(scene.entrance, _hello(scene, eve.certificate, invite_id=""))


def _proof(scene: Scene, eve: Person, seed: bytes, nonce: bytes) -> Proof:
    statement = AdmissionStatement(
        group=scene.group,
        invite_id=scene.invitation.invite_id,
        member_id=eve.member_id,
        node_id=eve.node_id,
        admitter=scene.alpha.node_id,  # type: ignore[arg-type]
        nonce=nonce,
    )
    return Proof(signature=prove(seed, statement))


def a_proof_without_the_seed(scene: Scene) -> str:
    return _challenged(scene, lambda eve, nonce: pack(_proof(scene, eve, os.urandom(32), nonce)))


def a_proof_for_another_nonce(scene: Scene) -> str:
    """By one who has the seed; of a nonce of its own choice."""
    return _challenged(scene, lambda eve, _: pack(_proof(scene, eve, scene.invitation.seed, bytes(32))))


def an_overheard_proof(scene: Scene) -> str:
    """The proof with which mallory was let in, word for word."""
    return _challenged(scene, lambda eve, _: scene.mallory.conversation[1])


def _challenged(scene: Scene, proof: "object") -> str:
    eve = Person("eve")
    with Muxed.dial(scene.entrance, eve.key) as muxed:
        stream = muxed.open(ENTRANCE_PROTOCOL)
        stream.tell(frame(pack(_hello(scene, eve.certificate))))
        challenge = answer_in(stream)
        if not isinstance(challenge, Challenge):
            return repr(challenge)
        stream.tell(frame(proof(eve, challenge.nonce)))  # type: ignore[operator]
        answer = answer_in(stream)
        return f"refused: {answer.code}" if answer.type == "refusal" else answer.type


def an_overheard_conversation(scene: Scene) -> str:
    """All that mallory said when it joined, from the first word on."""
    return Person("eve").knock(scene.entrance, *scene.mallory.conversation)


def an_introduction_with_others_operations(scene: Scene) -> str:
    """The whole log, shown by one of whom it does not speak."""
    operations = tuple(operation.raw for operation in scene.mallory.log)
    return Person("eve").knock(scene.entrance, Introduce(group=scene.group, operations=operations, last=True))


def an_introduction_with_forged_operations(scene: Scene) -> str:
    """Mallory's admission with our own certificate in it, under a signature that does not fit."""
    eve = Person("eve")
    admission = next(each for each in scene.mallory.log if isinstance(each.payload, MemberAdmit))
    forged = admission.raw[:-64] + os.urandom(64)
    return eve.knock(scene.entrance, Introduce(group=scene.group, operations=(forged,), last=True))


def all_that_an_entrance_keeps(scene: Scene) -> str:
    """Connections to beta, each with as many bytes as an entrance takes, of which it can read no line to its end."""
    held = []
    try:
        for _ in range(HOARDING_CONNECTIONS):
            muxed = Muxed.dial(scene.entrance_of(scene.beta), Ed25519PrivateKey.generate())
            held.append(muxed.wire)
            with suppress(Closed):
                muxed.new_stream().tell(line(MULTISTREAM)[:-1] + bytes(ENTRANCE_BYTES_MAX - 100))
        ends = [wire.is_hung_up(0.2) for wire in held]
    finally:
        for wire in held:
            wire.close()
    return "all but a few hung up on" if sum(ends) >= HOARDING_CONNECTIONS - 4 else f"{ends}"


AT_THE_ENTRANCE = {
    the_house_from_the_entrance: "not spoken",
    many_streams: "hung up on",
    a_yamux_frame_of_four_gigabytes: "hung up on",
    more_than_an_entrance_takes: "hung up on",
    a_frame_of_four_gigabytes: "reset",
    malformed_messages: "reset",
    a_forged_certificate: "refused: bad-certificate",
    a_certificate_with_spare_bytes: "refused: bad-certificate",
    anothers_certificate: "refused: bad-certificate",
    another_group: "refused: unknown-invitation",
    no_invitation: "refused: unknown-invitation",
    a_proof_without_the_seed: "refused: bad-proof",
    a_proof_for_another_nonce: "refused: bad-proof",
    an_overheard_proof: "refused: bad-proof",
    an_overheard_conversation: "refused: bad-certificate",
    an_introduction_with_others_operations: "refused: not-a-member",
    an_introduction_with_forged_operations: "refused: bad-operation",
    all_that_an_entrance_keeps: "all but a few hung up on",
}
