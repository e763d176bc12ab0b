"""What is remembered of the bytes that others send stays bounded, whatever they send (docs/protocol.md §2)."""

import os
import tracemalloc

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import RemoteProtocolError
from protocol.group.operations import OPERATION_TAG, open_operation
from protocol.keys import public_key_of
from protocol.remembered import remembered_bytes
from protocol.signing import Envelope
from protocol.wire import pack

LONG_BYTES = 400_000


def test_what_is_remembered_by_bytes_goes_by_bytes() -> None:
    opened: list[bytes] = []

    @remembered_bytes(10)
    def read(kind: str, raw: bytes) -> str:
        opened.append(raw)
        return kind + raw.decode()

    for raw in (b"one", b"two", b"one", b"three", b"one", b"four", b"two", b"a long one"):
        assert read("is ", raw) == "is " + raw.decode()
    # "one", the oldest, had to go for "three", and so on; what is as long as all goes in alone.
    assert opened == [b"one", b"two", b"three", b"one", b"four", b"two", b"a long one"]


def test_long_bodies_under_wrong_signatures_are_not_kept() -> None:
    key = public_key_of(Ed25519PrivateKey.generate())
    tracemalloc.start()
    try:
        for _ in range(100):
            raw = pack(Envelope(t=OPERATION_TAG, v=1, b=os.urandom(LONG_BYTES), k=key, s=bytes(64)))
            try:
                open_operation(raw)
            except RemoteProtocolError:
                continue
            raise AssertionError("it was opened")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * LONG_BYTES
