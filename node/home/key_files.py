"""The files that hold a home's secrets: whose they are, how they are read, and the key that all of them lie under.

As ssh has it: a key that others could read, or a place where others could put one, is refused. Where the owner set a
passphrase, it opens `home.key`, and that opens the rest; so setting, changing and taking away a passphrase each hang on
one file, which is there whole or not at all. Every other file is read as it is found, sealed or in clear: a crash
halfway loses nothing, and the next start ends what was begun.
"""

import grp
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from node.home.sealing import KEY_BYTES, Vault, is_sealed, open_under, seal_under
from protocol.errors import FednodeError, Refused
from tracker.durable import disk_errors, remove_temporaries, sync_directory, write_atomically

NODE_KEY = "node.key"
MEMBER_KEY = "member.key"
SEAL_KEY = "seal.key"
KEY_FILES = (NODE_KEY, MEMBER_KEY, SEAL_KEY)
HOME_KEY = "home.key"  # there where a passphrase is set: the key that the others are sealed with
GROUP_KEYS = "group-*.keys"
MOVED_MEMBER_KEYS = f"{MEMBER_KEY}.*"  # of a member whose node this was before it was linked to another
KEY_FILE_BYTES_MAX = 64 * 1024  # a private key has some 120 bytes
_OF_HOME = "key of a home"

PrivateKey = TypeVar("PrivateKey", Ed25519PrivateKey, X25519PrivateKey)


# --- whose they are --------------------------------------------------------------------------------------------
def check_key_file(path: Path) -> None:
    """Raise Refused where others could have read or changed the key in `path`."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise Refused(
            "key-not-ours",
            f"The key {path} belongs to {_user(found.st_uid)}, and this process runs as {_user(os.geteuid())}",
            remedy=f"run the node as its owner, or, if it is yours: chown {_user(os.geteuid())} {path}",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise Refused(
            "key-not-private",
            f"The key {path} can be read by others (mode {mode:04o})",
            remedy=f"chmod 600 {path}; if somebody may have copied it, remove this node from its groups",
        )


def check_place(home: Path) -> None:
    """Raise Refused where `home` is another's, or others could put files of their own into it, or a home of theirs into
    its place; and FednodeError where it cannot even be seen."""
    with disk_errors(f"look at the home {home}"):
        if not home.exists():
            home = _nearest(home)
        else:
            check_is_ours(home)
            if has_keys(home):
                _check_folder(home, f"The home {home}")
        for parent in home.resolve().parents:
            _check_folder(parent, f"The folder {parent}, which the home lies in,")


def check_is_ours(home: Path) -> None:
    """Raise Refused where the folder `home` is another's."""
    owner = home.stat().st_uid
    if owner != os.geteuid():
        raise Refused(
            "home-not-ours",
            f"The home {home} belongs to {_user(owner)}, and this process runs as {_user(os.geteuid())}",
            remedy=f"call this as {_user(owner)}, or name another --home",
        )


def _check_folder(folder: Path, what: str) -> None:
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise Refused(
            "home-not-ours",
            f"{what} belongs to {_user(found.st_uid)}, who could put other keys there",
            remedy=f"keep the home in a folder of {_user(os.geteuid())}: name it with --home",
        )
    is_sticky = bool(found.st_mode & stat.S_ISVTX)  # as in /tmp: only owners rename and remove
    by_group = found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid)
    if (by_group or found.st_mode & stat.S_IWOTH) and not is_sticky:
        raise Refused(
            "home-not-private",
            f"{what} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}), who could put other keys there",
            remedy=f"chmod go-w {folder}, or name another place with --home",
        )


def _is_own_group(group: int) -> bool:
    """Whether it is the group of the user alone, as many systems make one for each."""
    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_gid == user.pw_gid and entry.gr_name == user.pw_name and not set(entry.gr_mem) - {user.pw_name}


def _nearest(path: Path) -> Path:
    """The place of the nearest folder above that is there, as if it were in it."""
    while not path.parent.exists():
        path = path.parent
    return path


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


# --- reading and writing ---------------------------------------------------------------------------------------
def read_key(path: Path, kind: type[PrivateKey], vault: Vault) -> PrivateKey:
    """The private key in `path`. Raises Refused where others could read it, and FednodeError where it is none."""
    check_key_file(path)
    try:
        key = key_in_pem(vault.open(path.name, path.read_bytes()[:KEY_FILE_BYTES_MAX]))
    except (ValueError, OSError) as error:
        raise not_a_key(path, str(error)) from None
    if not isinstance(key, kind):
        raise not_a_key(path, f"it holds a {type(key).__name__.lstrip('_')}")
    return key


def key_in_pem(pem: bytes) -> object:
    """The private key in `pem`, of whatever kind. Raises ValueError where there is none, or it is under a password."""
    try:
        return load_pem_private_key(pem, password=None)
    except (
        TypeError,
        UnsupportedAlgorithm,
        InternalError,
    ) as error:  # the last: of a wrong length
        raise ValueError(str(error).partition("\n")[0]) from None


def write_key(path: Path, key: PrivateKey, vault: Vault) -> None:
    """Write it durably, mode 0600, in place of what was there."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomically(path, vault.seal(path.name, pem))


def not_a_key(path: Path, why: str) -> FednodeError:
    return FednodeError(
        f"The key {path} cannot be read: {why}",
        remedy="move it away, and put back a copy of it, or fednode key import a backup; without either begin with an "
        "empty home (--home FOLDER)",
    )


def has_keys(home: Path) -> bool:
    return any((home / name).exists() for name in (*KEY_FILES, HOME_KEY))


# --- the passphrase --------------------------------------------------------------------------------------------
def is_protected(home: Path) -> bool:
    with disk_errors(f"look into the home {home}"):
        return (home / HOME_KEY).exists()


def secret_files(home: Path) -> Iterator[Path]:
    """The secrets that there are, but for the home's key: the node's, the member's, and those of groups."""
    yield from (home / name for name in KEY_FILES if (home / name).exists())
    yield from sorted(home.glob(MOVED_MEMBER_KEYS))
    yield from sorted(home.glob(GROUP_KEYS))


def unlock(home: Path, passphrase: str | None) -> Vault:
    """What opens and seals the secrets of `home`. In a home without keys, a passphrase is set with its first.

    The caller holds the home's lock.

    Raises:
        Refused: passphrase-needed, wrong-passphrase, not-protected (there is none, and one was given); or others could
            have read or changed the home's key.
    """
    if is_protected(home):
        if passphrase is None:
            raise passphrase_needed(home)
        vault = Vault(_home_key(home, passphrase))
        _seal_all(home, vault)  # where a crash left some in clear
        return vault
    if passphrase is None:
        return Vault()
    if has_keys(home):
        raise Refused(
            "not-protected",
            f"A passphrase was given, but the keys in {home} lie there in clear",
            remedy="put them under one with fednode key protect, or start without a passphrase",
        )
    return _set(home, passphrase)


def passphrase_needed(home: Path) -> Refused:
    return Refused(
        "passphrase-needed",
        f"The keys in {home} are under a passphrase",
        remedy="give it with --passphrase-file FILE (- reads it from standard input) or FEDNODE_PASSPHRASE, or call "
        "this from a terminal and type it",
    )


def protect(home: Path, present: str | None, passphrase: str) -> None:
    """Put all secrets of `home` under `passphrase`, in place of the `present` one where there is one.

    The caller holds the home's lock.
    """
    if not is_protected(home):
        _seal_all(home, _set(home, passphrase))
        return
    if present is None:
        raise passphrase_needed(home)
    key = _home_key(home, present)
    write_atomically(home / HOME_KEY, seal_under(passphrase, _OF_HOME, key))
    _seal_all(home, Vault(key))


def unprotect(home: Path, passphrase: str) -> None:
    """Leave all secrets of `home` in clear, for who can read the files. The caller holds the home's lock."""
    if not is_protected(home):
        raise Refused("not-protected", f"The keys in {home} are under no passphrase", remedy="nothing to do")
    vault = Vault(_home_key(home, passphrase))
    with disk_errors(f"write the keys in {home}"):
        opened = {path: vault.open(_sealed_as(path), path.read_bytes()) for path in secret_files(home)}
        for path, secret in opened.items():
            write_atomically(path, secret)
        (home / HOME_KEY).unlink()  # last: until then the next start seals again what is in clear
        sync_directory(home)


def _set(home: Path, passphrase: str) -> Vault:
    key = secrets.token_bytes(KEY_BYTES)
    with disk_errors(f"write the keys in {home}"):
        write_atomically(home / HOME_KEY, seal_under(passphrase, _OF_HOME, key))
    return Vault(key)


def _home_key(home: Path, passphrase: str) -> bytes:
    path = home / HOME_KEY
    check_key_file(path)
    return open_under(passphrase, _OF_HOME, path.read_bytes(), str(path))


def _seal_all(home: Path, vault: Vault) -> None:
    with disk_errors(f"write the keys in {home}"):
        remove_temporaries(home)  # a writer that was killed may have left a key there in clear
        for path in secret_files(home):
            check_key_file(path)
            if not is_sealed(raw := path.read_bytes()):
                write_atomically(path, vault.seal(_sealed_as(path), raw))


def _sealed_as(path: Path) -> str:
    """A member's key that was moved away is sealed as what it was."""
    return MEMBER_KEY if path.name.startswith(f"{MEMBER_KEY}.") else path.name
