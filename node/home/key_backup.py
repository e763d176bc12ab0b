"""Backups of an identity: a file with the node's keys, or the member's alone, and how it becomes a home again.

A backup holds who the node is, and nothing that it did: no groups, no votes, no models. Nothing that is in a home is
ever replaced by what is in a backup, and all of it is checked before any of it is written.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

from node.home.home import SETTINGS
from node.home.identity import CERTIFICATE
from node.home.key_files import KEY_FILES, MEMBER_KEY, NODE_KEY, SEAL_KEY, key_in_pem, read_key
from node.home.sealing import SEALED_TEXT_BYTES_MAX, Vault, is_secret_text, open_under, seal_under
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.fields import Name
from protocol.identity import NodeCertificate, open_certificate
from protocol.keys import member_id_of, node_id_of, public_key_of
from tracker.durable import disk_errors, sync, sync_directory, write_atomically

PEM_CHARACTERS_MAX = 1000  # of a key; an Ed25519 one has 119
_HOLDS = "backup of keys"
_File = Annotated[str, Field(pattern=r"^(node|member|seal)\.key$")]
_Pem = Annotated[str, Field(max_length=PEM_CHARACTERS_MAX)]
_KINDS = {NODE_KEY: Ed25519PrivateKey, MEMBER_KEY: Ed25519PrivateKey, SEAL_KEY: X25519PrivateKey}

Key = Ed25519PrivateKey | X25519PrivateKey


class Backup(BaseModel):
    """What a backup's file says, its armour taken off. Names are those that others know the node and its member by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fednode_backup: Literal[1] = 1
    keys: dict[_File, _Pem] = Field(min_length=1)
    certificate: Base64Bytes | None = None
    name: Name | None = None
    member_name: Name | None = None


class Ids(NamedTuple):
    """The public names of keys; "" for one that is not there, or cannot be read."""

    node_id: str
    member_id: str
    seal_key: str


# --- making one ------------------------------------------------------------------------------------------------
def backup_of(home: Path, vault: Vault, *, member_only: bool) -> Backup:
    """The keys of `home`, whose lock the caller holds. Raises Refused where it lacks them."""
    wanted = (MEMBER_KEY,) if member_only else KEY_FILES
    keys = {name: _pem(key) for name in wanted if (key := key_in(home, name, vault)) is not None}
    if not keys or (NODE_KEY not in keys and not member_only):
        raise no_key(home, "the member's key" if member_only else "a node's key")
    raw = read_certificate(home)
    certificate = _opened(raw, str(home / CERTIFICATE)) if raw else None
    return Backup.model_construct(
        keys=keys,
        certificate=None if member_only else raw,
        name=certificate.node_name if certificate and not member_only else None,
        member_name=certificate.member_name if certificate else None,
    )


def no_key(home: Path, what: str) -> Refused:
    return Refused("no-key", f"The home {home} does not have {what}", remedy="name the --home of a node that has it")


def write_backup(path: Path, backup: Backup, passphrase: str | None) -> None:
    """Write it to a new file, mode 0600, durably; in clear without a passphrase."""
    raw = backup.model_dump_json(exclude_none=True, indent=2).encode() + b"\n"
    raw = raw if passphrase is None else seal_under(passphrase, _HOLDS, raw)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused("file-exists", f"{path} is there already", remedy="name another file") from None
    except OSError as error:
        raise Refused("bad-path", f"{path} cannot be written ({error.strerror})", remedy="name another file") from None
    with disk_errors(f"write {path}"), os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        sync(descriptor)
        sync_directory(path.absolute().parent)


# --- reading one -----------------------------------------------------------------------------------------------
def read_raw(path: Path) -> bytes:
    """What stands in the file, armour and all. Raises Refused where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(SEALED_TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise Refused("bad-path", f"{path} cannot be read ({error.strerror})", remedy="name a backup's file") from None


def is_under_passphrase(raw: bytes) -> bool:
    return is_secret_text(raw)


def open_backup(raw: bytes, passphrase: str | None, place: str) -> Backup:
    """The backup in `raw`. Raises Refused for a wrong passphrase, and FednodeError where it is none."""
    if is_under_passphrase(raw):
        raw = open_under(passphrase or "", _HOLDS, raw, place)
    try:
        backup = Backup.model_validate_json(raw)
        for name in backup.keys:
            _key_of(name, backup.keys[name])
    except ValueError as error:  # a ValidationError is one
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise FednodeError(f"{place} is no backup of keys: {why}", remedy="name a file of fednode key export") from None
    return backup


def restore(home: Path, vault: Vault, backup: Backup) -> list[str]:
    """Write the keys of `backup` that `home` lacks; gives the names of their files. The caller holds its lock.

    Raises Refused, and has written nothing, where the home has other keys, or a certificate of other ones.
    """
    given: dict[str, Key] = {name: _key_of(name, pem) for name, pem in backup.keys.items()}
    missing = []
    for name, key in given.items():
        here = key_in(home, name, vault)
        if here is None:
            missing.append(name)
        elif _pem(here) != _pem(key):
            raise _another_identity(home, f"{name} there is another key")
    if raw := read_certificate(home):
        _check_fits(home, _opened(raw, str(home / CERTIFICATE)), given)
    elif backup.certificate:
        _check_fits(home, _opened(backup.certificate, "the backup's certificate"), given)
    with disk_errors(f"write the keys in {home}"):
        if backup.certificate and not raw:
            write_atomically(home / CERTIFICATE, backup.certificate)
        if missing and not (home / SETTINGS).exists():
            names = {"name": backup.name, "member_name": backup.member_name}
            kept = {key: name for key, name in names.items() if name is not None}
            write_atomically(home / SETTINGS, json.dumps(kept).encode() + b"\n")
        # The node's key last: if this is cut off, what is here is yet no node with another member's key.
        for name in sorted(missing, key=lambda name: name == NODE_KEY):
            write_atomically(home / name, vault.seal(name, backup.keys[name].encode()))
    return missing


def _check_fits(home: Path, certificate: NodeCertificate, keys: dict[str, Key]) -> None:
    ids = ids_of(keys)
    for mine, theirs, what in (
        (ids.node_id, certificate.node_id, "node"),
        (ids.member_id, certificate.member_id, "member"),
        (ids.seal_key, certificate.seal_key.hex(), "seal key"),
    ):
        if mine and mine != theirs:
            raise _another_identity(home, f"its certificate is that of the {what} {theirs}, and the key that of {mine}")


def _another_identity(home: Path, why: str) -> Refused:
    return Refused(
        "another-identity",
        f"The home {home} is somebody else already: {why}",
        remedy="import into an empty home (--home FOLDER); nothing here was changed",
    )


# --- keys and their names --------------------------------------------------------------------------------------
def key_in(home: Path, name: str, vault: Vault) -> Key | None:
    path = home / name
    if not path.exists():
        return None
    if name == SEAL_KEY:
        return read_key(path, X25519PrivateKey, vault)  # type: ignore[type-abstract]
    return read_key(path, Ed25519PrivateKey, vault)  # type: ignore[type-abstract]


def ids_in(home: Path, vault: Vault | None) -> Ids:
    """Who the home is: by its keys, or, where `vault` is None, by its certificate, which is in clear."""
    if vault is not None:
        return ids_of({name: key for name in KEY_FILES if (key := key_in(home, name, vault)) is not None})
    raw = read_certificate(home)
    if raw is None:
        return Ids("", "", "")
    certificate = _opened(raw, str(home / CERTIFICATE))
    return Ids(certificate.node_id, certificate.member_id, certificate.seal_key.hex())


def ids_of(keys: dict[str, Key]) -> Ids:
    node, member, seal = (keys.get(name) for name in KEY_FILES)
    return Ids(
        node_id_of(public_key_of(node)) if isinstance(node, Ed25519PrivateKey) else "",
        member_id_of(public_key_of(member)) if isinstance(member, Ed25519PrivateKey) else "",
        seal.public_key().public_bytes_raw().hex() if seal else "",
    )


def read_certificate(home: Path) -> bytes | None:
    path = home / CERTIFICATE
    if not path.exists():
        return None
    with disk_errors(f"read {path}"):
        return path.read_bytes()


def _opened(raw: bytes, place: str) -> NodeCertificate:
    try:
        return open_certificate(raw)
    except RemoteProtocolError as error:
        raise FednodeError(f"{place} is no certificate: {error.what}", remedy="put back a copy of it") from None


def _key_of(name: str, pem: str) -> Key:
    key = key_in_pem(pem.encode())
    if not isinstance(key, _KINDS[name]):
        raise ValueError(f"what it calls {name} is a key of another kind")
    assert isinstance(key, Ed25519PrivateKey | X25519PrivateKey)
    return key


def _pem(key: Key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
