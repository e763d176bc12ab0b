"""The decoders of everything else from outside: frames of links and workers, models and updates, files that somebody
hands over, recordings, what is typed or sent to the local API."""

import contextlib
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
from fuzz_messages import CERTIFICATE, CONFIGURATIONS, HASH, example_of
from fuzzing import Decoder
from pydantic import ValidationError

from aggregation.checkpoints import apply_difference
from aggregation.codecs.codec import Codec
from aggregation.codecs.registry import CODECS
from aggregation.tensors.safetensors_file import from_safetensors, safetensors_pieces
from aggregation.tensors.schema import Schema, TensorSpec
from aggregation.updates import Bounds, check_update, encode_update, update_of
from node.api.http import bodies as api_bodies
from node.cli import look
from node.home import key_backup
from node.membership import address_book
from node.network.links import _unpack
from node.record.model_difference import differences
from node.run import past as run_past
from node.training.worker_checks import failure_of, output_of
from node.training.worker_frames import FrameReader, encode_frame
from protocol.errors import FednodeError
from protocol.run.checkpoint import Checkpoint
from protocol.wire import pack
from tracker import journal, retention
from tracker.imports import read as import_read
from tracker.queries import proposal, statements
from tracker.tables.connect import connect
from tui import settings, web
from tui.facts import toml_text
from tui.feeds import recording

SCHEMA = Schema.of(
    [
        TensorSpec("layer.weight", "float32", (2, 3), "averaged"),
        TensorSpec("half", "float16", (3,), "averaged"),
        TensorSpec("seen", "int64", (), "counter"),
        TensorSpec("mine", "float32", (4,), "local"),
    ]
)
MODEL = bytes(SCHEMA.model_bytes)
WORKER_REFUSES = (
    FednodeError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)  # as node.training.worker_checks has it
_TEMPORARY = tempfile.TemporaryDirectory(prefix="fednode-fuzz-")  # goes with the process
FOLDER = Path(_TEMPORARY.name)


def _control_frame(raw: bytes) -> None:
    _unpack(raw)


def _worker(raw: bytes) -> None:
    for frame in FrameReader().feed(raw):
        output_of(frame)
        failure_of(frame)


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(len(encode_frame({})) - 1, "little" if encode_frame({})[0] else "big") + body


def _checkpoint(body: bytes) -> bytes:
    return msgpack.packb({"t": "c", "v": 1, "b": body, "k": bytes(32), "s": bytes(64)})


def _updates(codec: Codec) -> tuple[bytes, ...]:
    moved = SCHEMA.raw_of({**SCHEMA.views(MODEL), "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
    return tuple(encode_update(SCHEMA, MODEL, trained, codec) for trained in (MODEL, moved))


def _update(codec: Codec) -> Callable[[bytes], object]:
    bounds = Bounds({"seen": np.zeros((), np.int64)}, norm=1.0)
    return lambda raw: check_update(SCHEMA, codec, bounds, update_of("a", raw, 10))


def _difference(codec: str) -> Callable[[bytes], object]:
    """What the maker of a checkpoint says to have added to the model before it."""
    return lambda raw: apply_difference(MODEL, SCHEMA, raw, codec)


def _compared(raw: bytes) -> None:
    differences([raw], [raw])


def _file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    def from_file(raw: bytes) -> object:
        path = FOLDER / name
        path.write_bytes(raw)
        return read(path)

    return from_file


def _api(raw: bytes) -> None:
    for kind in api_bodies.Body.__subclasses__():
        try:
            kind.model_validate_json(raw)
        except ValidationError:
            continue


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda raw: read(raw.decode("utf-8", "replace"))


def _sql(text: str) -> None:
    with contextlib.closing(connect(None)) as connection:
        statements.check_statement(connection, text)


def decoders() -> list[Decoder]:
    safetensors = b"".join(bytes(piece) for piece in safetensors_pieces(SCHEMA, MODEL, {}))
    checkpoint = pack(example_of(Checkpoint))
    outputs = [
        {"kind": "metric", "values": {"loss": 0.5}, "step": 1, "split": "train", "epoch": 0, "round": 1},
        {"kind": "parameter", "parameters": {"lr": ["0.1", "float"]}},
        {"kind": "span", "name": "load", "seconds": 0.1},
        {"kind": "artifact", "name": "x", "staged": {"file": "a", "kind": "b", "details": '{"a": [1]}'}},
        {"kind": "log", "text": "hello", "level": "INFO"},
    ]
    frames = tuple(encode_frame(output) for output in outputs)
    records = journal.encode_record(0, b"one")
    tape = b"".join(json.dumps(line).encode() + b"\n" for line in _RECORDED)
    return [
        Decoder(
            "control frame", _control_frame, (msgpack.packb(["sync", b"x"]),), ("node.network.links:_unpack_frame",)
        ),
        Decoder("worker's frame", _worker, frames, _WORKER, WORKER_REFUSES),
        Decoder("worker's frame, its body", _worker, tuple(map(msgpack.packb, outputs)), (), WORKER_REFUSES, _framed),
        Decoder("peek", run_past.peek, (_checkpoint(checkpoint),), ("node.run.past:peek",)),
        Decoder("peek, its body", run_past.peek, (checkpoint,), wrap=_checkpoint),
        Decoder("schema", Schema.from_bytes, (SCHEMA.to_bytes(),), _SCHEMA),
        Decoder("safetensors", lambda raw: from_safetensors(SCHEMA, raw), (safetensors,), _SAFETENSORS),
        Decoder("models compared", _compared, (safetensors,), ("node.record.model_difference:_Reader.header",)),
        *(Decoder(f"update in {name}", _update(codec), _updates(codec), refuses=()) for name, codec in CODECS.items()),
        *(Decoder(f"difference in {name}", _difference(name), _updates(codec)) for name, codec in CODECS.items()),
        Decoder("journal", journal.scan_records, (records + journal.encode_record(len(records), b"two"),), refuses=()),
        Decoder("address book", address_book.unpack_records, (msgpack.packb([CERTIFICATE]),), _BOOK, (*_DAMAGED,)),
        Decoder("key backup", lambda raw: key_backup.open_backup(raw, "x" * 20, "it"), (_BACKUP,), _KEYS),
        Decoder("import's manifest", _file(_manifest, import_read.MANIFEST), (b'{"store_version": 3}',), _IMPORT),
        Decoder("rules of retention", retention.rules_in, (b'{"logs": "30d"}',), ("tracker.retention:rules_in",)),
        Decoder("SQL", _text(_sql), (b"SELECT 1", b"FROM range(3)"), ("tracker.queries.statements:check_statement",)),
        Decoder("recording", _recording, (tape,), _TAPE, _TAPE_REFUSES, gzip.compress),
        Decoder("recording, packed", _recording, (gzip.compress(tape),), (), _TAPE_REFUSES),
        Decoder("dashboard's settings", _file(settings.Settings.read, "s"), (b'{"theme": "x"}',), _SETTINGS, ()),
        Decoder("page of the dashboard", _text(web._parsed), (b'["stdin", "x"]',), ("tui.web:_parsed",), ()),
        Decoder("TOML in a form", _text(toml_text.read), CONFIGURATIONS, ("tui.facts.toml_text:read",), ()),
        Decoder("number in a form", _text(_literal), (b"12", b"1e3"), ("tui.facts.toml_text:literal",), ()),
        Decoder("local API", _api, (b'{"name": "a"}', b'{"token": "x"}'), ("node.api.http.bodies:body_of",), ()),
        Decoder("recorded parameter", _text(_parameter), (b"1", b"[1]"), _PARAMETERS, ()),
    ]


_recording = _file(recording.read_recording, "tape")


def _manifest(path: Path) -> None:
    import_read._check_manifest(path.parent)


def _literal(text: str) -> None:
    toml_text.literal(text, "number")


def _parameter(text: str) -> None:
    look.parameter(text, "int")
    proposal.configuration_of([{"key": "a", "value": text, "type": "int"}])


_WORKER = (
    *("node.training.worker_frames:FrameReader.feed", "node.training.worker_frames:_decode"),
    "node.training.worker_checks:_clean_details",
)
_SCHEMA = ("aggregation.tensors.schema:_parse", "aggregation.tensors.schema:_parse_tensor")
_SAFETENSORS = ("aggregation.tensors.safetensors_file:_read_header",)
_BOOK, _DAMAGED = ("node.membership.address_book:unpack_records",), (ValueError, TypeError)
_KEYS = ("node.home.key_backup:open_backup",)
_IMPORT = ("tracker.imports.read:_check_manifest",)
_TAPE, _TAPE_REFUSES = ("tui.feeds.recording:_object",), (recording.RecordingError,)
_SETTINGS = ("tui.settings:Settings.read",)
_PARAMETERS = ("node.cli.look:parameter", "tracker.queries.proposal:_value")
_BACKUP = b'{"keys": {"node.key": "-----BEGIN PRIVATE KEY-----"}, "member_name": "ann"}'
_RECORDED = [
    {"format": recording.FORMAT, "version": recording.VERSION, "title": "t"},
    {"at": 0.0, "event": {"type": "hello"}},
    {"at": 1.0, "ask": [["runs", HASH], {"limit": 3}], "answer": {}},
]
