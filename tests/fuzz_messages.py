"""The decoders of the protocol: every message class, everything signed, tokens, logs, entrances, configurations.

An example of every message class is made from its fields' own types, so that a new class is fuzzed without a word here.
"""

import importlib
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import annotated_types
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzzing import Decoder
from pydantic import AfterValidator, ValidationError
from pydantic.fields import FieldInfo

import node
import protocol
from node.network.bulk import wire as bulk_wire
from node.network.bulk.wire import pack_news
from protocol import identity
from protocol.entrance import device_link, invitation
from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.joining import Joining
from protocol.entrance.messages import open_entrance_message
from protocol.errors import RemoteProtocolError
from protocol.group import operations, presence
from protocol.group.address_record import ADDRESS_TAG, AddressRecord, open_address_record
from protocol.group.author import append, create_group
from protocol.group.key import GroupKey, open_gossip, open_sealed, recipients_of, seal_gossip, seal_key_of, sealed_for
from protocol.group.operation_kinds import InvitePost, Payload
from protocol.group.operations import OPERATION_TAG
from protocol.group.sync import SyncMessage, SyncSession
from protocol.keys import BlobId, member_id_of, member_public_key, node_id_of, node_public_key, public_key_of
from protocol.manifest import read as manifest_read
from protocol.run import checkpoint, history
from protocol.run.journal import read_record
from protocol.signing import FORMAT_VERSION, Envelope, Signed
from protocol.token_text import DEVICE_LINK, INVITATION, TokenKind, token_payload, token_text
from protocol.version import read_versions
from protocol.wire import Wire, pack, unpack

NOW = 1_800_000_000
MESSAGE_BYTES_MAX = 1024 * 1024
KEY, MEMBER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
NODE_ID, MEMBER_ID = node_id_of(public_key_of(KEY)), member_id_of(public_key_of(MEMBER_KEY))
SEAL_SECRET = bytes([3]) * 32
CERTIFICATE = identity.make_certificate(
    MEMBER_KEY, KEY, member_name="ann", node_name="alpha", seal_key=seal_key_of(SEAL_SECRET), issued_at=NOW
)
LOG, _ = create_group(KEY, CERTIFICATE, name="study", nonce=bytes(16), claimed_at=NOW)
POSTED = append(LOG, KEY, InvitePost(seed_public_key=bytes(32), role="member", uses=3, expires_at=NOW), claimed_at=NOW)
GROUP_KEY = GroupKey(0, bytes([4]) * 32)
HASH = "ab" * 32
TOPIC = "a topic"


# --- an example of every message -------------------------------------------------------------------------------
def message_classes() -> list[type[Wire]]:
    """Every class that is read from bytes, in the protocol's room and the node's."""
    for room in (protocol, node):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.ispkg and module.name != "node.__main__":
                importlib.import_module(module.name)
    return sorted(_descendants(Wire), key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def _descendants(kind: type[Wire]) -> Iterator[type[Wire]]:
    for each in kind.__subclasses__():
        yield from _descendants(each)
        if each.model_fields and each.__module__.split(".")[0] in ("protocol", "node"):
            yield each


def example_of(kind: type[Wire]) -> Wire:
    """A message of this class that its own checks let pass, or one that comes near."""
    values = {name: _value_of(field.annotation, field.metadata) for name, field in kind.model_fields.items()}
    try:
        return kind(**values)
    except ValidationError:
        return kind.model_construct(**values)


def _value_of(annotation: Any, metadata: list[Any]) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = [*arguments[1:], *metadata]
        flat = [part for each in inner for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
        return _value_of(arguments[0], flat)
    if origin is typing.Literal:
        return arguments[0]
    if origin in (tuple, Mapping, dict):
        return _filled(origin, arguments, metadata)
    if origin is not None:  # a union: the first of it
        return _value_of(arguments[0], metadata)
    if isinstance(annotation, type) and issubclass(annotation, Wire):
        return example_of(annotation)
    if hasattr(annotation, "__supertype__"):  # of a NewType, such as a node's id
        return _value_of(annotation.__supertype__, metadata)
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return tuple(_value_of(each, []) for each in typing.get_type_hints(annotation).values())
    return _plain(annotation, metadata)


def _filled(origin: Any, arguments: tuple[Any, ...], metadata: list[Any]) -> Any:
    if origin is not tuple:
        return {"loss": 0.5}
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        value = _value_of(arguments[0], [])
        return (value,) if value != "/" else ("/ip4/127.0.0.1/tcp/1",)
    return tuple(_value_of(each, []) for each in arguments)


def _plain(annotation: Any, metadata: list[Any]) -> Any:
    least = next((each.min_length for each in metadata if isinstance(each, annotated_types.MinLen)), 0)
    longest = next((each.max_length for each in metadata if isinstance(each, annotated_types.MaxLen)), None)
    checks = {each.func.__name__ for each in metadata if isinstance(each, AfterValidator)}
    patterns = [each.pattern for each in metadata if getattr(each, "pattern", None)]
    if annotation is bytes:
        return CERTIFICATE if longest and longest > len(CERTIFICATE) else bytes(least or 8)
    if annotation is str and patterns:
        return HASH if "64" in patterns[0] else "a-code"
    if annotation is str:
        named = {"_check_node_id": NODE_ID, "_check_member_id": MEMBER_ID, "_check_address": "/ip4/127.0.0.1/tcp/1"}
        return next((named[check] for check in checks if check in named), "x" * max(least, 1))
    return {int: 1, float: 0.5, bool: True}.get(annotation)


def _signed(tag: str, key: Ed25519PrivateKey = KEY) -> Callable[[bytes], bytes]:
    """Puts hostile bytes under a good signature, so that they are looked at."""

    def sign(body: bytes) -> bytes:
        signature = key.sign(f"fednode/{tag}/{FORMAT_VERSION}\n".encode() + body)
        return pack(Envelope(t=tag, v=FORMAT_VERSION, b=body, k=public_key_of(key), s=signature))

    return sign


# --- what takes them in ----------------------------------------------------------------------------------------
def _any_message(raw: bytes) -> None:
    for kind in message_classes():
        try:
            unpack(kind, raw, MESSAGE_BYTES_MAX)
        except RemoteProtocolError:
            continue


def _in_log(raw: bytes) -> None:
    log = LOG.copy()
    log.add(raw)
    log.state()


def _in_session(raw: bytes) -> None:
    SyncSession(LOG.copy()).receive(unpack(SyncMessage, raw, MESSAGE_BYTES_MAX))


def _at_entrance(raw: bytes) -> None:
    host = EntranceHost(
        {LOG.group: Hosted(LOG.copy(), GROUP_KEY)}, KEY, peer=NODE_ID, nonce=bytes(32), ephemeral_secret=bytes([5]) * 32
    )
    host.receive(raw, now=NOW)


def _as_joiner(raw: bytes) -> None:
    joining = Joining(None, group=LOG.group, certificate=CERTIFICATE, seal_secret=SEAL_SECRET, peer=NODE_ID)
    joining.open()
    joining.receive(raw)


def _in_book(raw: bytes) -> None:
    presence.PresenceBook(LOG.group).hear(raw, LOG.state(), now=0.0)


def _gossip(raw: bytes) -> None:
    open_gossip({0: GROUP_KEY}, LOG.group, TOPIC, raw)


def _sealed_key(raw: bytes) -> None:
    open_sealed(SEAL_SECRET, raw, LOG.group, 0)
    recipients_of(raw)
    sealed_for(raw, NODE_ID)


def _names(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    for read in (node_public_key, member_public_key):
        try:
            read(text)
        except RemoteProtocolError:
            continue


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """For what takes text: as an argument of a command line has it, bytes that are none included."""
    return lambda raw: read(raw.decode("utf-8", "surrogateescape"))


def _token(kind: TokenKind) -> Callable[[bytes], bytes]:
    """The text, with its checks made to fit, of a token of hostile content."""
    tag = {INVITATION: invitation.INVITATION_TAG, DEVICE_LINK: device_link.DEVICE_LINK_TAG}[kind]
    return lambda body: token_text(_signed(tag)(body[:1500]), kind).encode()


def _operation(payload: bytes) -> bytes:
    """A good operation of each kind in turn, signed, with hostile content."""
    kinds = sorted(operations.PAYLOADS)
    body = operations.Operation(
        group=LOG.group,
        parents=LOG.heads(),
        previous=LOG.tip_of(NODE_ID),
        kind=kinds[len(payload) % len(kinds)],
        critical=True,
        payload=payload,
        claimed_at=NOW,
    )
    return _signed(OPERATION_TAG)(pack(body))


NOTES: dict[str, tuple[Callable[[bytes], Signed[Any]], type[Wire]]] = {
    "open_ready": (checkpoint.open_ready, checkpoint.Ready),
    "open_declined": (checkpoint.open_declined, checkpoint.Declined),
    "open_offer": (checkpoint.open_offer, checkpoint.Offer),
    "open_report": (checkpoint.open_report, checkpoint.Report),
    "open_ack": (checkpoint.open_ack, checkpoint.Ack),
    "open_receipt": (checkpoint.open_receipt, checkpoint.Receipt),
    "open_issue": (checkpoint.open_issue, checkpoint.Issue),
    "open_checkpoint": (checkpoint.open_checkpoint, checkpoint.Checkpoint),
}
SIGNED: dict[str, tuple[Callable[[bytes], object], str, type[Wire], Ed25519PrivateKey]] = {
    "open_certificate": (identity.open_certificate, identity.CERTIFICATE_TAG, identity.NodeCertificate, MEMBER_KEY),
    "open_revocation": (identity.open_revocation, identity.REVOCATION_TAG, identity.NodeRevocation, MEMBER_KEY),
    "open_address_record": (open_address_record, ADDRESS_TAG, AddressRecord, KEY),
    "an operation": (_in_log, OPERATION_TAG, operations.Operation, KEY),
    "presence": (_in_book, presence.PRESENCE_TAG, presence.Presence, KEY),
} | {name: (read, checkpoint._TAGS[kind], kind, KEY) for name, (read, kind) in NOTES.items()}
COVERED_BY_SIGNED = (
    *("protocol.identity:open_certificate", "protocol.identity:open_revocation", "protocol.group.presence:_open"),
    *("protocol.group.address_record:open_address_record", "protocol.group.operations:_open"),
    *("protocol.run.checkpoint:_open_note", "protocol.run.checkpoint:open_checkpoint"),
)


def decoders() -> list[Decoder]:
    examples = {kind: pack(example_of(kind)) for kind in message_classes()}
    every = tuple(examples.values())
    entrance = tuple(raw for kind, raw in examples.items() if "entrance" in kind.__module__)
    runs = tuple(raw for kind, raw in examples.items() if "run_" in kind.__module__)
    log = tuple(operation.raw for operation in LOG)
    gossip = (seal_gossip(GROUP_KEY, LOG.group, TOPIC, b"x" * 100, nonce=bytes(12)),)
    report = (_signed("x")(examples[checkpoint.Report]),)
    bodies = [
        Decoder(f"{name}, its body", read, (examples[kind],), wrap=_signed(tag, key))
        for name, (read, tag, kind, key) in SIGNED.items()
    ]
    envelopes = [
        Decoder(name, read, (_signed(tag, key)(examples[kind]), *log), COVERED_BY_SIGNED)
        for name, (read, tag, kind, key) in SIGNED.items()
    ]
    payloads = tuple(raw for kind, raw in examples.items() if issubclass(kind, Payload))
    return [
        Decoder("any message", _any_message, every, ("protocol.wire:_unpack",)),
        *envelopes,
        *bodies,
        Decoder("an operation, its payload", _in_log, payloads, wrap=_operation),
        Decoder("sync", _in_session, (examples[SyncMessage], *every)),
        Decoder("entrance", _at_entrance, entrance),
        Decoder("joiner", _as_joiner, entrance),
        Decoder("entrance message", open_entrance_message, entrance),
        Decoder("gossip", _gossip, gossip),
        Decoder("sealed key", _sealed_key, (bytes(112), bytes(80))),
        Decoder("names", _names, (NODE_ID.encode(), MEMBER_ID.encode())),
        Decoder("run journal", read_record, runs),
        Decoder("subject of a report", history.subject_of, report, ("protocol.run.history:subject_of",), refuses=()),
        Decoder("subject, its body", history.subject_of, (examples[checkpoint.Report],), refuses=(), wrap=_signed("x")),
        *_about_blobs(),
        Decoder("versions", read_versions, (b"1,2,3",)),
        Decoder("configuration", _text(manifest_read.read_configuration), CONFIGURATIONS, _CONFIGURATION),
        *_tokens(examples),
    ]


def _about_blobs() -> list[Decoder]:
    blob = BlobId("ab" * 32)
    news = (pack_news(20, [3, 19], 0, [NODE_ID]), pack_news(20, [3, 19, 4], 2, []), pack_news(20, range(20), 0, []))
    return [
        Decoder("blob request", bulk_wire.read_request, (bulk_wire.pack_request(bulk_wire.CHUNK, 1, blob, b"x"),)),
        Decoder("blob answer", bulk_wire.read_answer, (bulk_wire.pack_answer(bulk_wire.OK, 7),)),
        Decoder("chunk list", bulk_wire.read_list, (bulk_wire.pack_list(5, [bytes(32)]),)),
        Decoder("chunk asked", lambda raw: bulk_wire.read_asked_chunk(raw, 20), (bytes(5),)),
        Decoder("news asked", bulk_wire.read_asked_news, (bulk_wire.pack_asked_news(3, 8),)),
        Decoder("chunks' indices", lambda raw: bulk_wire.read_indices(raw, 20), (bulk_wire.pack_indices([1, 2]),)),
        Decoder("news of a blob", lambda raw: bulk_wire.read_news(raw, 20), news),
    ]


def _tokens(examples: Mapping[type[Wire], bytes]) -> list[Decoder]:
    texts = tuple(_token(kind)(b"\x80") for kind in (INVITATION, DEVICE_LINK))
    bodies = (examples[invitation.TokenBody], examples[device_link.DeviceTokenBody])
    read_link = _text(lambda text: device_link.open_device_token(text, now=NOW))
    read_invitation = _text(lambda text: invitation.open_token(text, now=NOW))
    of_invitations, of_links = (
        ("protocol.entrance.invitation:read_token",),
        ("protocol.entrance.device_link:open_device_token",),
    )
    return [
        Decoder("invitation", read_invitation, texts, of_invitations),
        Decoder("device token", read_link, texts, of_links),
        Decoder("invitation, its body", read_invitation, bodies, wrap=_token(INVITATION)),
        Decoder("device token, its body", read_link, bodies, wrap=_token(DEVICE_LINK)),
        Decoder("token text", _text(token_payload), texts),
    ]


_CONFIGURATION = ("protocol.manifest.read:read_configuration",)
CONFIGURATIONS = (
    b'name = "a"\nseed = 7\n[task]\nname = "digits"\n[task.parameters]\nx = [1, {y = 2}]\n[data]\nname = "d"\n',
    b"[training]\nrounds = 3\n[aggregation]\nrule = 'mean'\nnorm_max = 1e3\n[timing]\nheartbeat_s = 0.3\n",
    b'[common_args]\ntraining_type = "cross_silo"\n[train_args]\nepochs = 1\ncomm_round = 10\n',
)
