"""A node's home: its folder, its lock, its keys, its settings, and where its socket lies.

Whoever can read the home can be the node, so the folder is its owner's alone; what holds for the keys in it is in
node.home.key_files.
"""

import contextlib
import fcntl
import getpass
import hashlib
import ipaddress
import json
import math
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from node.home.identity import CERTIFICATE
from node.home.key_files import MEMBER_KEY, NODE_KEY, SEAL_KEY, PrivateKey, check_place, read_key, unlock, write_key
from node.home.sealing import Vault
from node.network.rates import rate_of, size_of
from node.network.reach import host_and_port, outside_address
from node.system.names import INTERVAL_KEY, INTERVAL_S
from node.training.worker_watch import HANG_KEY, HANG_S, SILENCE_KEY, SILENCE_S
from protocol.errors import FednodeError, Refused
from protocol.fields import Name
from protocol.limits import NAME_CHARACTERS_MAX
from tracker.durable import disk_errors, write_atomically

SOCKET_PATH_BYTES_MAX = 100  # a socket's name has room for 108 bytes on Linux and 104 on macOS, the end included
PORT_ATTEMPTS_MAX = 50  # two neighbouring ports are free almost anywhere; more attempts mean that none are
# Below the ports that systems give to outgoing connections: one of these might hold ours while the node is stopped.
FIRST_PORT, LAST_PORT = 20_000, 32_000
SETTINGS_BYTES_MAX = 64 * 1024
LOCK = "node.lock"
SETTINGS = "settings.json"
SOCKET = "api.sock"
SOCKET_POINTER = "api.path"
RECORD = "record.duckdb"
NONE = "none"  # for an option that is remembered: nothing, from now on
LIMITS: Mapping[str, Callable[[str], object]] = {"up": rate_of, "down": rate_of, "blobs_max": size_of}
LOG = "node.log"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node remembers from its first start. People may edit it while the node is stopped."""

    name: str
    member_name: str  # of the owner; the same on all nodes of one
    listen: str  # a multiaddress with a port; the entrance has the next port
    announce: str = ""  # multiaddresses where outsiders reach the door, with spaces between
    mdns: str = "on"  # "off": the local network is not told of this node, nor listened to
    up: str = NONE  # how fast blobs go out and come in, and what room they take: node.network.rates, node.home.limits
    down: str = NONE
    blobs_max: str = NONE
    worker_silence_s: float = SILENCE_S  # see node.training.worker_watch
    worker_hang_s: float = HANG_S
    system_interval_s: float = INTERVAL_S  # between looks at how busy the machine is, while a run goes on


class Home:
    """A node's folder, held by this process alone until `close`.

    Args:
        path: the folder, made when missing.
        passphrase: of its keys, where they are under one. A home that is new gets its keys under it.
        links: the node is to become one of a member whose key is elsewhere, so none is made here.

    Raises:
        Refused: another process runs a node here, others can read or change the keys, or the passphrase is not theirs.
        FednodeError: the folder or something in it cannot be used.
    """

    def __init__(self, path: Path, passphrase: str | None = None, *, links: bool = False) -> None:
        self.path = path
        check_place(path)
        _make_private_folder(path)
        self._lock = _locked(path / LOCK)
        self._socket: Path | None = None
        try:
            self.vault = unlock(path, passphrase)
            if not links:
                _check_node_key(path)
            # The library's key classes are abstract to mypy alone.
            self.key = _key(path / NODE_KEY, Ed25519PrivateKey, self.vault)  # type: ignore[type-abstract]
            self.member_key = self._member_key(links)
            self.seal_key = _key(path / SEAL_KEY, X25519PrivateKey, self.vault)  # type: ignore[type-abstract]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _member_key(self, links: bool) -> Ed25519PrivateKey | None:
        """None in a home that was linked, or is about to be: it has its member's certificate, and never the key."""
        path = self.path / MEMBER_KEY
        if not path.exists() and (links or (self.path / CERTIFICATE).exists()):
            return None
        return _key(path, Ed25519PrivateKey, self.vault)  # type: ignore[type-abstract]

    def close(self) -> None:
        """Take the socket's file away and let the next node in."""
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            if self._socket.parent != self.path:
                with contextlib.suppress(OSError):
                    self._socket.parent.rmdir()
                (self.path / SOCKET_POINTER).unlink(missing_ok=True)
            self._socket = None
        os.close(self._lock)

    def settings(
        self,
        *,
        name: str | None = None,
        member_name: str | None = None,
        listen: str | None = None,
        announce: Sequence[str] = (),
        mdns: bool | None = None,
        limits: Mapping[str, str] | None = None,
    ) -> Settings:
        """What was remembered, changed by what is given now, and remembered so.

        `listen` is a multiaddress; with port 0 two free neighbouring ports are picked, once: addresses that others
        know stay right over restarts. `announce`: HOST or HOST:PORT; "none" forgets what was remembered.
        `limits`: by the names in `LIMITS`.
        """
        path = self.path / SETTINGS
        known = read_settings(path)
        before = known.get("listen", "")
        chosen = listen or before or "/ip4/0.0.0.0/tcp/0"
        if chosen.endswith("/tcp/0"):
            any_port = chosen.removesuffix("0")
            chosen = before if before.startswith(any_port) else f"{any_port}{_free_port(chosen)}"
        settings = Settings(
            name=_checked_name(name or known.get("name") or _machine_name()),
            member_name=_checked_name(member_name or known.get("member_name") or _login_name()),
            listen=chosen,
            announce=_announced(path, announce, known.get("announce", ""), chosen),
            mdns=_switch(path, "mdns", known.get("mdns", "on") if mdns is None else "on" if mdns else "off"),
            up=checked_limit(path, "up", limits or {}, known),
            down=checked_limit(path, "down", limits or {}, known),
            blobs_max=checked_limit(path, "blobs_max", limits or {}, known),
            **{key: _seconds(path, key, known[key]) for key in (SILENCE_KEY, HANG_KEY, INTERVAL_KEY) if key in known},
        )
        now = known | {key: str(value) for key, value in asdict(settings).items()}
        if now != known:
            write_atomically(path, json.dumps(now, indent=2).encode() + b"\n")
        return settings

    def socket(self) -> Path:
        """Where to bind the local API's socket; `fednode_client.socket_path` finds it again.

        It lies in the home, or, where that path is too long for a socket, in a private folder of the system's.
        """
        path, pointer = self.path / SOCKET, self.path / SOCKET_POINTER
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
            path = _runtime_folder(self.path) / SOCKET
            write_atomically(pointer, os.fsencode(path))
        else:
            pointer.unlink(missing_ok=True)
        self._socket = path
        return path


def listen_address(text: str) -> str:
    """The multiaddress that a person means by PORT, HOST, HOST:PORT or a multiaddress.

    Raises Refused for anything else. Port 0, and none, mean any that is free.
    """
    if text.startswith("/"):
        return text
    host, port = _host_and_port(text)
    try:
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError:
        address, number = None, -1
    if address is None or not 0 <= number <= 65_534:  # the entrance has the next one
        raise Refused(
            "bad-address",
            f"{text!r} is no address to listen on",
            remedy="write PORT, ADDRESS or ADDRESS:PORT, such as 192.0.2.7:4001; 0.0.0.0 stands for all addresses",
        )
    return f"/ip{address.version}/{address}/tcp/{number}"


def _host_and_port(text: str) -> tuple[str, str]:
    if text.isdecimal():
        return "0.0.0.0", text
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host.strip("[]") and not host.endswith("]")):  # an IPv6 address without a port
        return text.strip("[]"), "0"
    return host.strip("[]"), port


# --- the folder and its lock -----------------------------------------------------------------------------------
@contextlib.contextmanager
def stopped_home(path: Path) -> Iterator[None]:
    """Hold the home at `path`, which must be there, so that no node starts meanwhile. Raises Refused."""
    with disk_errors(f"look at the home {path}"):
        if not path.is_dir():
            raise Refused("no-home", f"There is no home at {path}", remedy="name another --home")
    check_place(path)
    handle = _locked(path / LOCK)
    try:
        yield
    finally:
        os.close(handle)


def must_be_stopped(path: Path) -> None:
    """Raise Refused where a node runs in the home at `path`, which need not be there."""
    if (path / LOCK).exists():
        check_place(path)
        os.close(_locked(path / LOCK))


def _make_private_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise FednodeError(
            f"The home {path} cannot be used ({error.strerror})", remedy="name a folder of yours with --home"
        ) from None


def _locked(path: Path) -> int:
    """The lock's descriptor. The kernel lets go of it when this process ends, however it ends."""
    with disk_errors(f"open {path}"):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
        os.close(handle)
        raise Refused(
            "already-running",
            f"A node is running at {path.parent} already, as process {holder or 'unknown'}",
            remedy="use that one (fednode status), stop it (fednode stop), or name another --home",
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


# --- keys ------------------------------------------------------------------------------------------------------
def _key(path: Path, kind: type[PrivateKey], vault: Vault) -> PrivateKey:
    """The private key in `path`, made when there is none."""
    if path.exists():
        return read_key(path, kind, vault)
    made = kind.generate()
    write_key(path, made, vault)
    return made


def _check_node_key(home: Path) -> None:
    """Raise FednodeError where the node's key is gone and its certificate is not, as after an import that was cut off:
    with a new key this would be another node without a word."""
    if (home / CERTIFICATE).exists() and not (home / NODE_KEY).exists():
        raise FednodeError(
            f"The key {home / NODE_KEY} is gone, and its certificate is there",
            remedy="put back a copy of it, or fednode key import a backup (once more, if that was cut off); without "
            "either begin with an empty home (--home FOLDER)",
        )


# --- settings --------------------------------------------------------------------------------------------------
def read_settings(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with disk_errors(f"read {path}"):
        raw = path.read_bytes()
    try:
        known = json.loads(raw[: SETTINGS_BYTES_MAX + 1])
    except ValueError as error:
        raise _bad_settings(path, str(error)) from None
    if not isinstance(known, Mapping) or not all(isinstance(value, str) for value in known.values()):
        raise _bad_settings(path, "it is no object of texts")
    return dict(known)


def _seconds(path: Path, key: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _bad_settings(path, f"{key} is {text[:40]!r}, not a number of seconds")
    return seconds


def checked_limit(path: Path, key: str, given: Mapping[str, str], known: Mapping[str, str]) -> str:
    text = given.get(key, known.get(key, NONE))
    try:
        LIMITS[key](text)
    except Refused as refused:
        if key in given:
            raise
        raise _bad_settings(path, f"{key}: {refused.what}") from None
    return text


def _announced(path: Path, given: Sequence[str], known: str, listen: str) -> str:
    if given == (NONE,):
        return ""
    port = host_and_port(listen)[1]
    try:
        return " ".join(outside_address(text, port) for text in given or known.split())
    except Refused as refused:
        if given:
            raise
        raise _bad_settings(path, f"announce: {refused.what}") from None


def _switch(path: Path, key: str, text: str) -> str:
    if text not in ("on", "off"):
        raise _bad_settings(path, f"{key} is {text[:40]!r}, neither on nor off")
    return text


def _bad_settings(path: Path, why: str) -> FednodeError:
    return FednodeError(f"The settings {path} cannot be read: {why}", remedy="mend it, or remove it to begin anew")


def _checked_name(name: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise Refused(
            "bad-name",
            f"{name[:100]!r} cannot be the name of a node or a member",
            remedy=f"choose 1 to {NAME_CHARACTERS_MAX} characters on one line",
        ) from None


def _machine_name() -> str:
    return socket.gethostname().partition(".")[0][:NAME_CHARACTERS_MAX] or "node"


def _login_name() -> str:
    try:
        return getpass.getuser()[:NAME_CHARACTERS_MAX] or "member"
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "member"


def _free_port(listen: str) -> int:
    """A port that is free beside its next one, on the address of `listen`: the door's and the entrance's."""
    family = socket.AF_INET6 if listen.startswith("/ip6/") else socket.AF_INET
    host = listen.split("/")[2]
    for _ in range(PORT_ATTEMPTS_MAX):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        with socket.socket(family) as door, socket.socket(family) as entrance:
            try:
                door.bind((host, port))
                entrance.bind((host, port + 1))
            except OSError:
                continue
            return port
    raise FednodeError(
        f"No two neighbouring ports are free at {host}", remedy="name one: --listen /ip4/0.0.0.0/tcp/PORT"
    )


# --- the socket ------------------------------------------------------------------------------------------------
def _runtime_folder(home: Path) -> Path:
    """A private folder with a short path: the same at every start where the system has a place for such."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(base) / f"fednode-{hashlib.blake2b(os.fsencode(home), digest_size=6).hexdigest()}"
    if not os.path.isdir(base) or len(os.fsencode(folder / SOCKET)) > SOCKET_PATH_BYTES_MAX:
        return Path(tempfile.mkdtemp(prefix="fednode-"))  # 0700, and nobody could make it before us
    _make_private_folder(folder)
    return folder
