"""A node's home: private, locked, remembered."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import fednode
from node.home.home import FIRST_PORT, LAST_PORT, SOCKET_PATH_BYTES_MAX, Home, listen_address
from protocol.errors import FednodeError, Refused
from protocol.keys import public_key_of

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_keys_and_the_next_finds_them(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        first = [public_key_of(home.key), public_key_of(home.member_key), home.seal_key.private_bytes_raw()]
    assert len(set(first)) == 3
    with Home(tmp_path / "home") as home:
        assert [public_key_of(home.key), public_key_of(home.member_key), home.seal_key.private_bytes_raw()] == first


def test_everything_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir(mode=0o755)
    with Home(path) as home:
        home.settings()
        assert mode(path) == 0o700
        files = {entry.name: mode(entry) for entry in path.iterdir()}
    assert files == dict.fromkeys(("node.key", "member.key", "seal.key", "node.lock", "settings.json"), 0o600)


def test_keys_are_pkcs8_in_pem(tmp_path: Path) -> None:
    with Home(tmp_path):
        assert (tmp_path / "node.key").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, bits: int) -> None:
    Home(tmp_path).close()
    (tmp_path / "member.key").chmod(bits)
    with pytest.raises(Refused, match=r"member\.key can be read by others") as caught:
        Home(tmp_path)
    assert "chmod 600" in caught.value.remedy
    (tmp_path / "member.key").chmod(0o600)
    Home(tmp_path).close()  # and the lock was let go of


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    Home(tmp_path).close()
    (tmp_path / "node.key").write_bytes(b"rubbish")
    with pytest.raises(FednodeError, match="cannot be read"):
        Home(tmp_path)
    assert (tmp_path / "node.key").read_bytes() == b"rubbish"


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    Home(tmp_path).close()
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "node.key").write_bytes(other)
    with pytest.raises(FednodeError, match="X25519"):
        Home(tmp_path)


def test_a_second_node_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    with Home(tmp_path):
        with pytest.raises(Refused, match=f"as process {os.getpid()}") as caught:
            Home(tmp_path)
        assert caught.value.code == "already-running"
    Home(tmp_path).close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = "import sys, os, pathlib; from node.home.home import Home; Home(pathlib.Path(sys.argv[1])); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / "node.lock").read_text()
    Home(tmp_path).close()


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FednodeError, match="cannot be used"):
        Home(tmp_path / "file" / "home")


# --- settings --------------------------------------------------------------------------------------------------
def test_name_and_port_are_chosen_once(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        first = home.settings()
        assert first.name
        port = int(first.listen.rpartition("/")[2])
        assert FIRST_PORT <= port < LAST_PORT
        assert first.listen == f"/ip4/0.0.0.0/tcp/{port}"
    with Home(tmp_path) as home:
        assert home.settings() == first
        assert home.settings(name="other").listen == first.listen
    with Home(tmp_path) as home:
        assert home.settings().name == "other"


def test_any_port_of_an_address_stays_the_same_one(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        first = home.settings(listen="/ip4/127.0.0.1/tcp/0").listen
        assert home.settings(listen="/ip4/127.0.0.1/tcp/0").listen == first
        assert home.settings(listen="/ip4/127.0.0.1/tcp/21000").listen == "/ip4/127.0.0.1/tcp/21000"
        assert home.settings().listen == "/ip4/127.0.0.1/tcp/21000"


def test_the_chosen_port_and_the_next_are_free(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        port = int(home.settings(listen="/ip4/127.0.0.1/tcp/0").listen.rpartition("/")[2])
    for number in (port, port + 1):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", number))


def test_settings_of_a_newer_node_are_kept(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"name": "a", "listen": "/ip4/127.0.0.1/tcp/1", "colour": "red"}')
    with Home(tmp_path) as home:
        home.settings(name="b")
    assert json.loads((tmp_path / "settings.json").read_text())["colour"] == "red"


@pytest.mark.parametrize("text", ["", "[", "3", '{"name": 3}', "\xff"])
def test_damaged_settings_are_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text, encoding="latin-1")
    with Home(tmp_path) as home, pytest.raises(FednodeError, match=r"settings\.json cannot be read"):
        home.settings()


@pytest.mark.parametrize("name", [" a", "a\n", "\x1b[31m", "x" * 81])
def test_names_that_do_not_fit_a_line_are_refused(tmp_path: Path, name: str) -> None:
    with Home(tmp_path) as home, pytest.raises(Refused, match="cannot be the name of a node"):
        home.settings(name=name)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("4001", "/ip4/0.0.0.0/tcp/4001"),
        ("127.0.0.1", "/ip4/127.0.0.1/tcp/0"),
        ("127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001"),
        ("[::1]:4001", "/ip6/::1/tcp/4001"),
        ("[::1]", "/ip6/::1/tcp/0"),
        ("::1", "/ip6/::1/tcp/0"),
        ("fe80::1:2", "/ip6/fe80::1:2/tcp/0"),
        ("/ip4/10.0.0.1/tcp/5", "/ip4/10.0.0.1/tcp/5"),
    ],
)
def test_addresses_to_listen_on(text: str, address: str) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize("text", ["", ":", "host:1", "127.0.0.1:", "127.0.0.1:x", "65535", "1.2.3.4:65535", "1.2.3:4"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no address to listen on"):
        listen_address(text)


# --- the socket's place ----------------------------------------------------------------------------------------
def test_the_socket_is_in_the_home_where_its_path_is_short(tmp_path: Path) -> None:
    path = Path("/tmp") / f"fednode-test-{os.getpid()}"
    try:
        with Home(path) as home:
            assert home.socket() == path / "api.sock" == fednode.socket_path(path)
    finally:
        for entry in path.iterdir():
            entry.unlink()
        path.rmdir()


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "r"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    path = tmp_path / ("long" * 30)
    with Home(path) as home:
        place = home.socket()
        assert place.parent.parent == runtime
        assert mode(place.parent) == 0o700
        assert len(os.fsencode(place)) <= SOCKET_PATH_BYTES_MAX
        assert fednode.socket_path(path) == place
    assert list(runtime.iterdir()) == []


def test_without_a_runtime_folder_it_is_a_new_private_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with Home(tmp_path / ("long" * 30)) as home:
        place = home.socket()
        assert mode(place.parent) == 0o700
    assert not place.parent.exists()


def test_where_a_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDNODE_HOME", str(tmp_path / "a"))
    assert fednode.home_path() == tmp_path / "a"
    assert fednode.home_path(tmp_path / "b") == tmp_path / "b"
    monkeypatch.delenv("FEDNODE_HOME")
    assert fednode.home_path().name == "fednode"


def test_a_workers_limits_are_read_from_the_settings(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        assert (home.settings().worker_silence_s, home.settings().worker_hang_s) == (120, 600)
        known = json.loads((tmp_path / "settings.json").read_text())
        (tmp_path / "settings.json").write_text(json.dumps(known | {"worker_hang_s": "3600"}))
        assert home.settings().worker_hang_s == 3600
        for wrong in ("soon", "0", "inf", "nan"):
            (tmp_path / "settings.json").write_text(json.dumps(known | {"worker_hang_s": wrong}))
            with pytest.raises(FednodeError, match=r"worker_hang_s is .* not a number of seconds"):
                home.settings()


def test_a_linked_home_never_gets_a_members_key(tmp_path: Path) -> None:
    """Neither before the token was used, nor at a later start."""
    with Home(tmp_path / "a", links=True) as home:
        assert home.member_key is None
        first = public_key_of(home.key)
    (tmp_path / "a" / "certificate").write_bytes(b"what the linking node has signed")
    with Home(tmp_path / "a") as home:
        assert home.member_key is None
        assert public_key_of(home.key) == first
    assert not (tmp_path / "a" / "member.key").exists()
