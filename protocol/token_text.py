"""The text form of tokens: made to survive chat windows, mail and retyping, and to say what went wrong.

"fednode1-" for an invitation, "fednode-link1-" for a device token, and base32 (RFC 4648, lower case, no padding) of:
the payload's length (2 bytes), a check over it (3 bytes), the payload, a check over all (4 bytes). The length comes
first so that a token cut short is told from a mistyped one; like Bech32 (BIP 173), a token may be all upper case, never
mixed. Rules: docs/protocol.md §4.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from blake3 import blake3

from protocol.errors import Refused
from protocol.limits import TOKEN_CHARACTERS_MAX

TOKEN_VERSION = 1


@dataclass(frozen=True, slots=True)
class TokenKind:
    """What a token is for. `word`: what its text begins with, before the version. `name`: what people call it."""

    word: str
    name: str

    @property
    def prefix(self) -> str:
        return f"{self.word}{TOKEN_VERSION}-"


INVITATION = TokenKind("fednode", "an invitation")
DEVICE_LINK = TokenKind("fednode-link", "a device token")
_KINDS = (INVITATION, DEVICE_LINK)
_HEADER_BYTES, _CHECK_BYTES = 5, 4
_HEADER_CHARACTERS = 8
PAYLOAD_BYTES_MAX = (TOKEN_CHARACTERS_MAX - len(DEVICE_LINK.prefix)) * 5 // 8 - _HEADER_BYTES - _CHECK_BYTES
_WRAPPED_CHARACTERS_MAX = 4 * TOKEN_CHARACTERS_MAX  # a token broken into short, indented, quoted lines
# What mail, chat and shells put around and into a long word. None of it belongs to the alphabet.
_WRAPPING = re.compile("[\\s\u200b-\u200d\u2060\ufeff\u00ad\"'`<>]+")
_TOKEN = re.compile(r"(fednode|fednode-link)([1-9][0-9]{0,3})-(.*)")
_FOREIGN = re.compile(r"[^a-z2-7]")
_AGAIN = "copy the whole token again from where it was printed"


def token_text(payload: bytes, kind: TokenKind = INVITATION) -> str:
    """The text of `payload`, at most PAYLOAD_BYTES_MAX bytes."""
    data = _header(len(payload)) + payload + _check(payload, kind)
    return kind.prefix + base64.b32encode(data).decode().lower().rstrip("=")


def kind_of(text: str) -> TokenKind:
    """What the token in `text`, as somebody pasted it, says that it is; an invitation where that cannot be told."""
    found = _TOKEN.match(_unwrap(text).lower())
    return next((kind for kind in _KINDS if found and kind.word == found.group(1)), INVITATION)


def token_payload(text: str, kind: TokenKind = INVITATION) -> bytes:
    """The payload of a token as somebody pasted it. White space, quotation marks and the like are overlooked.

    Raises:
        Refused: code not-a-token, newer-token, truncated or mistyped, each with what to do.
    """
    version, encoded = _split(_unwrap(text), kind)
    if version > TOKEN_VERSION:
        raise Refused(
            "newer-token",
            f"The token is of version {version}, and this fednode knows version {TOKEN_VERSION}",
            remedy="upgrade fednode on this machine",
        )
    if foreign := _FOREIGN.search(encoded):
        raise _mistyped(f"{foreign.group()!r} cannot stand in a token")
    return _decode(encoded, kind)


def _unwrap(text: str) -> str:
    if len(text) > _WRAPPED_CHARACTERS_MAX:
        raise _not_a_token()
    bare = _WRAPPING.sub("", text)
    return bare.lower() if bare.isascii() and bare == bare.upper() else bare


def _split(bare: str, kind: TokenKind) -> tuple[int, str]:
    match = _TOKEN.fullmatch(bare)
    if match and match.group(1) != kind.word:
        raise _of_another_kind(kind)
    if match:
        return int(match.group(2)), match.group(3)
    if _TOKEN.fullmatch(bare.lower()):
        raise _mistyped("upper and lower case are mixed")
    if len(bare) >= 4 and any(known.prefix.startswith(bare) for known in _KINDS):
        raise _truncated()
    raise _not_a_token()


def _decode(encoded: str, kind: TokenKind) -> bytes:
    if len(encoded) < _HEADER_CHARACTERS:
        raise _truncated()
    length = int.from_bytes(_unbase32(encoded[:_HEADER_CHARACTERS])[:2], "big")
    if _unbase32(encoded[:_HEADER_CHARACTERS]) != _header(length):
        raise _mistyped("its beginning does not add up")
    characters = _characters(_HEADER_BYTES + length + _CHECK_BYTES)
    if len(encoded) < characters:
        raise _truncated()
    if len(encoded) > characters:
        raise _mistyped(f"it is {len(encoded) - characters} characters too long")
    data = _unbase32(encoded)
    payload = data[_HEADER_BYTES:-_CHECK_BYTES]
    if data[-_CHECK_BYTES:] != _check(payload, kind) or token_text(payload, kind) != kind.prefix + encoded:
        raise _mistyped("its checksum does not add up")
    return payload


def _unbase32(encoded: str) -> bytes:
    try:
        return base64.b32decode(encoded.upper() + "=" * (-len(encoded) % 8))
    except binascii.Error:  # a number of characters that no bytes give
        raise _mistyped("its length does not add up") from None


def _characters(size: int) -> int:
    return (size * 8 + 4) // 5


def _header(length: int) -> bytes:
    size = length.to_bytes(2, "big")
    return size + blake3(b"fednode token length" + size).digest()[: _HEADER_BYTES - 2]


def _check(payload: bytes, kind: TokenKind) -> bytes:
    return blake3(kind.prefix.encode() + payload).digest()[:_CHECK_BYTES]


def _not_a_token() -> Refused:
    prefixes = " or ".join(kind.prefix for kind in _KINDS)
    return Refused("not-a-token", f"This is no token, for those begin with {prefixes}", remedy=_AGAIN)


def _of_another_kind(wanted: TokenKind) -> Refused:
    if wanted is INVITATION:
        what = "This is a device token, which makes a machine a node of its maker's, and no invitation into a group"
        return Refused("not-a-token", what, remedy="use it on your own new machine: fednode start --link TOKEN")
    what = "This is an invitation into a group, and no device token"
    return Refused("not-a-token", what, remedy="start the node without it, then use it: fednode join TOKEN")


def _truncated() -> Refused:
    return Refused("truncated", "The token is cut short: its end is missing", remedy=_AGAIN)


def _mistyped(why: str) -> Refused:
    return Refused("mistyped", f"The token was changed on its way: {why}", remedy=_AGAIN)
