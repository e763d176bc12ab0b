"""Secrets on the disk: under a passphrase (scrypt), or under a key that itself lies under one.

What a passphrase opens is a text that names how: scrypt (RFC 7914) makes a key from passphrase and salt, and
ChaCha20-Poly1305 (RFC 8439) seals with it, the text's head included, so that nothing in it can be changed unnoticed.
What is read is bounded before it costs anything: a file that somebody else made cannot have our memory.
"""

import base64
import binascii
import re
import secrets
import unicodedata
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from protocol.errors import FednodeError, Refused

SALT_BYTES = 16  # RFC 7914 leaves it open; of so many random bytes no two are ever alike
KEY_BYTES = 32
NONCE_BYTES = 12
SEALED_TEXT_BYTES_MAX = 1024 * 1024  # a backup has some 2 kB
SCRYPT_MEMORY_BYTES_MAX = 512 * 1024 * 1024  # four times ours: room for a stronger choice, and none for a hostile file
SCRYPT_P_MAX = 4  # each takes the whole time anew
# Whoever has the files can try about four a second and core, as long as they like: fewer characters fall to a list.
PASSPHRASE_CHARACTERS_MIN = 12
_ONE_TEXT = bytes(NONCE_BYTES)  # a key from a fresh salt seals one text only, so its nonce need not differ
_BEGIN, _END = "-----BEGIN FEDNODE SECRET-----", "-----END FEDNODE SECRET-----"
_LINE_CHARACTERS = 64
_TEXT = re.compile(
    f"{_BEGIN}\nHolds: (?P<holds>[a-z ]{{1,40}})\n"
    r"Key: scrypt N=(?P<n>[1-9][0-9]{0,9}) r=(?P<r>[1-9][0-9]{0,3}) p=(?P<p>[1-9][0-9]{0,3})\n"
    r"Salt: (?P<salt>[0-9a-f]{32})\n"
    r"Cipher: ChaCha20-Poly1305\n\n"
    rf"(?P<body>[A-Za-z0-9+/=\n]+)\n{_END}\n?"
)
_SEALED = b"fednode sealed 1\n"
_AT_REST = b"fednode/at-rest/1\n"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one try of a passphrase costs whoever tries, us and a thief alike. `n`: a power of two."""

    n: int
    r: int
    p: int

    @property
    def memory_bytes(self) -> int:
        return 128 * self.r * (self.n + self.p)


# 128 MiB and about 0.25 s of one core, once a start. N is what OWASP gives as the least today; r = 8 is what scrypt was
# made for (a block of 1 KiB), and p = 1 since memory, not time, is what guessing machines lack.
COST = Cost(n=2**17, r=8, p=1)


def check_new_passphrase(passphrase: str) -> None:
    """Raise Refused when it is too short to be set."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise Refused(
            "bad-passphrase",
            f"A passphrase of {len(passphrase)} character{'s' * (len(passphrase) != 1)} is guessed too soon",
            remedy=f"choose at least {PASSPHRASE_CHARACTERS_MIN}, such as four words that do not belong together",
        )


def seal_under(passphrase: str, holds: str, secret: bytes, cost: Cost | None = None) -> bytes:
    """`secret` as a text that only `passphrase` opens. `holds` names what it is, in lower case, for all to read.

    Raises Refused when the passphrase is too short.
    """
    check_new_passphrase(passphrase)
    cost = cost or COST
    salt = secrets.token_bytes(SALT_BYTES)
    head = (
        f"{_BEGIN}\nHolds: {holds}\nKey: scrypt N={cost.n} r={cost.r} p={cost.p}\nSalt: {salt.hex()}\n"
        "Cipher: ChaCha20-Poly1305\n\n"
    )
    cipher = ChaCha20Poly1305(_scrypt(passphrase, salt, cost))
    body = base64.b64encode(cipher.encrypt(_ONE_TEXT, secret, head.encode())).decode()
    lines = [body[at : at + _LINE_CHARACTERS] for at in range(0, len(body), _LINE_CHARACTERS)]
    return (head + "\n".join(lines) + f"\n{_END}\n").encode()


def open_under(passphrase: str, holds: str, raw: bytes, place: str) -> bytes:
    """The secret in a text of `seal_under`. `place` names the file for people.

    Raises:
        Refused: code wrong-passphrase. A changed text says the same: nobody can tell the two apart.
        FednodeError: it is no such text, or one that asks for more than we give.
    """
    found = _TEXT.fullmatch(raw[:SEALED_TEXT_BYTES_MAX].decode("ascii", errors="replace"))
    if found is None or found["holds"] != holds:
        raise _damaged(place, "it is no such text")
    cost = Cost(int(found["n"]), int(found["r"]), int(found["p"]))
    if cost.n & (cost.n - 1) or cost.n < 2 or cost.memory_bytes > SCRYPT_MEMORY_BYTES_MAX or cost.p > SCRYPT_P_MAX:
        raise _damaged(place, f"it asks for scrypt with N={cost.n} r={cost.r} p={cost.p}, more than is ever given")
    try:
        body = base64.b64decode(found["body"].replace("\n", ""), validate=True)
    except binascii.Error:
        raise _damaged(place, "its text was changed") from None
    head = found.string[: found.start("body")].encode()
    try:
        cipher = ChaCha20Poly1305(_scrypt(passphrase, bytes.fromhex(found["salt"]), cost))
    except (MemoryError, ValueError):  # the library says the same of numbers that do not go together
        raise FednodeError(
            f"{place} cannot be opened: there is no memory for scrypt with N={cost.n} r={cost.r} p={cost.p} "
            f"({cost.memory_bytes // 2**20} MiB), or its numbers were changed",
            remedy="end other programs and try again, or put back a copy of it from a backup",
        ) from None
    try:
        return cipher.decrypt(_ONE_TEXT, body, head)
    except InvalidTag:
        raise Refused(
            "wrong-passphrase",
            f"The passphrase does not open {place}",
            remedy="give the right one; nothing was changed. Without it only a backup helps",
        ) from None


def _scrypt(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    # Composed, as RFC 8265 has it: the same words typed on another system give the same bytes.
    words = unicodedata.normalize("NFC", passphrase).encode()
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost.n, r=cost.r, p=cost.p).derive(words)


class Vault:
    """Seals the files of a home, each under its name, with the home's key; without one it leaves them in clear."""

    def __init__(self, key: bytes | None = None) -> None:
        self._cipher = None if key is None else ChaCha20Poly1305(key)

    def __repr__(self) -> str:
        return f"Vault({'locked away' if self.is_sealing else 'in clear'})"

    @property
    def is_sealing(self) -> bool:
        return self._cipher is not None

    def seal(self, name: str, secret: bytes) -> bytes:
        if self._cipher is None:
            return secret
        nonce = secrets.token_bytes(NONCE_BYTES)
        return _SEALED + nonce + self._cipher.encrypt(nonce, secret, _AT_REST + name.encode())

    def open(self, name: str, raw: bytes) -> bytes:
        """What `seal` sealed under this name. What is in clear is given as it is. Raises FednodeError."""
        if not is_sealed(raw):
            return raw
        if self._cipher is None:
            raise FednodeError(
                f"{name} is sealed with a key that is not here: home.key is gone",
                remedy="put back home.key, or the whole home; to bring a key to another home, use fednode key export",
            )
        nonce, sealed = raw[len(_SEALED) :][:NONCE_BYTES], raw[len(_SEALED) + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, _AT_REST + name.encode())
        except (InvalidTag, ValueError):
            raise _damaged(name, "it was changed, or belongs to another home") from None


def is_sealed(raw: bytes) -> bool:
    return raw.startswith(_SEALED)


def is_secret_text(raw: bytes) -> bool:
    """Whether this is meant to be a text of `seal_under`."""
    return raw.startswith(_BEGIN.encode())


def _damaged(place: str, why: str) -> FednodeError:
    return FednodeError(f"{place} cannot be opened: {why}", remedy="put back a copy of it from a backup")
