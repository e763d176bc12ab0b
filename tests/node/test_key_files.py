"""Key files: modes and owners, and a passphrase that is set, changed and taken away without ever losing a key."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import node.home.key_files as key_files
import node.home.sealing as sealing
from node.home.home import Home
from node.home.key_files import HOME_KEY, KEY_FILES, check_place, is_protected, protect, secret_files, unprotect
from node.home.sealing import Cost, is_sealed
from protocol.errors import FednodeError, Refused
from protocol.keys import public_key_of
from tracker.durable import TEMPORARY_PREFIX

WORDS, OTHER = "correct horse battery", "staple staple staple"
GROUP_FILE = "group-" + "ab" * 32 + ".keys"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "COST", Cost(n=2**4, r=8, p=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A home in clear, with the keys of a group."""
    home = tmp_path / "home"
    Home(home).close()
    (home / GROUP_FILE).write_bytes(b"\x81\xa10\xc4\x20" + bytes(range(32)))
    (home / GROUP_FILE).chmod(0o600)
    return home


def secrets_of(home: Path, passphrase: str | None) -> tuple[bytes, ...]:
    """Everything that must never be lost, read as a start reads it."""
    with Home(home, passphrase) as opened:
        group = opened.vault.open(GROUP_FILE, (home / GROUP_FILE).read_bytes())
        assert opened.member_key is not None
        return (
            public_key_of(opened.key),
            public_key_of(opened.member_key),
            opened.seal_key.private_bytes_raw(),
            group,
        )


def all_sealed(home: Path) -> set[bool]:
    return {is_sealed(file.read_bytes()) for file in secret_files(home)}


# --- modes and owners ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*KEY_FILES, HOME_KEY])
@pytest.mark.parametrize("bits", [0o644, 0o620, 0o602, 0o610])
def test_a_key_that_others_could_read_or_change_is_refused(path: Path, name: str, bits: int) -> None:
    protect(path, None, WORDS)
    (path / name).chmod(bits)
    with pytest.raises(Refused) as caught:
        Home(path, WORDS)
    assert caught.value.code == "key-not-private"
    assert f"chmod 600 {path / name}" in caught.value.remedy


def test_a_key_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(key_files.os, "geteuid", lambda: mine + 1)
    with pytest.raises(Refused, match="belongs to") as caught:
        key_files.check_key_file(path / "node.key")
    assert caught.value.code == "key-not-ours"


def test_a_home_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after one start with sudo: said of the home, before anything in it is opened or made."""
    mine = os.geteuid()
    monkeypatch.setattr(key_files.os, "geteuid", lambda: mine + 1)
    for home in (path, path.parent):
        with pytest.raises(Refused, match="belongs to") as caught:
            Home(home)
        assert caught.value.code == "home-not-ours"
    assert not (path.parent / "node.lock").exists()


@pytest.mark.parametrize("bits", [0o777, 0o702])
def test_a_home_that_others_can_write_is_refused(path: Path, bits: int) -> None:
    path.chmod(bits)
    with pytest.raises(Refused) as caught:
        Home(path)
    assert caught.value.code == "home-not-private"
    assert f"chmod go-w {path}" in caught.value.remedy


def test_a_home_in_a_folder_that_others_can_write_is_refused(path: Path) -> None:
    path.parent.chmod(0o777)
    with pytest.raises(Refused, match="can be written by others"):
        Home(path)
    with pytest.raises(Refused, match="can be written by others"):
        Home(path.parent / "new" / "deep")
    assert not (path.parent / "new").exists()
    path.parent.chmod(0o1777)  # as /tmp: others cannot rename what is ours
    Home(path).close()


def test_a_group_of_others_may_not_write_and_the_users_own_may(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.chmod(0o770)
    monkeypatch.setattr(key_files, "_is_own_group", lambda group: True)
    check_place(path)
    monkeypatch.setattr(key_files, "_is_own_group", lambda group: False)
    with pytest.raises(Refused, match="can be written by others"):
        check_place(path)


def test_a_new_home_may_have_been_made_by_mkdir(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o775)
    (tmp_path / "home").chmod(0o775)
    with Home(tmp_path / "home"):
        assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


# --- the passphrase --------------------------------------------------------------------------------------------
def test_all_secrets_lie_under_it_and_are_the_same(path: Path) -> None:
    before = secrets_of(path, None)
    in_clear = [file.read_bytes() for file in secret_files(path)]
    protect(path, None, WORDS)
    assert is_protected(path)
    assert all_sealed(path) == {True}
    for file in path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(clear[4:36] in content for clear in in_clear), file
        assert before[2] not in content
    assert {file.stat().st_mode & 0o777 for file in secret_files(path)} == {0o600}
    assert secrets_of(path, WORDS) == before
    protect(path, WORDS, OTHER)
    assert secrets_of(path, OTHER) == before
    unprotect(path, OTHER)
    assert not is_protected(path)
    assert all_sealed(path) == {False}
    assert secrets_of(path, None) == before


def test_a_members_key_that_was_moved_away_is_a_secret_too(path: Path) -> None:
    """As linking does it with the key of the member whose node this was."""
    in_clear = (path / "member.key").read_bytes()
    protect(path, None, WORDS)
    moved = path / "member.key.Msomebody"
    (path / "member.key").rename(moved)
    Home(path, WORDS).close()
    assert is_sealed(moved.read_bytes())
    unprotect(path, WORDS)
    assert moved.read_bytes() == in_clear
    protect(path, None, WORDS)
    assert is_sealed(moved.read_bytes())


def test_a_new_home_is_made_under_a_passphrase(tmp_path: Path) -> None:
    Home(tmp_path / "home", WORDS).close()
    assert all_sealed(tmp_path / "home") == {True}
    with pytest.raises(Refused) as caught:
        Home(tmp_path / "home")
    assert caught.value.code == "passphrase-needed"
    for way in ("--passphrase-file", "FEDNODE_PASSPHRASE", "terminal"):
        assert way in caught.value.remedy


@pytest.mark.parametrize(
    "attempt",
    [
        lambda home: Home(home, OTHER),
        lambda home: protect(home, OTHER, "yet another passphrase"),
        lambda home: unprotect(home, OTHER),
    ],
)
def test_a_wrong_passphrase_damages_nothing(path: Path, attempt: Callable[[Path], object]) -> None:
    protect(path, None, WORDS)
    before = {file: file.read_bytes() for file in path.glob("*.key*")}
    with pytest.raises(Refused) as caught:
        attempt(path)
    assert caught.value.code == "wrong-passphrase"
    assert {file: file.read_bytes() for file in path.glob("*.key*")} == before
    Home(path, WORDS).close()  # and the lock was let go of


def test_a_passphrase_for_keys_that_have_none_is_refused(path: Path) -> None:
    with pytest.raises(Refused, match="lie there in clear") as caught:
        Home(path, WORDS)
    assert "fednode key protect" in caught.value.remedy
    with pytest.raises(Refused, match="under no passphrase"):
        unprotect(path, WORDS)


def test_a_home_without_its_home_key_says_so(path: Path) -> None:
    protect(path, None, WORDS)
    (path / HOME_KEY).unlink()
    with pytest.raises(FednodeError, match=r"home\.key is gone"):
        Home(path)


class Crash(Exception):
    """The machine goes off."""


@pytest.mark.parametrize(
    ("begin", "deed", "then"),
    [
        (None, lambda home: protect(home, None, WORDS), WORDS),
        (WORDS, lambda home: protect(home, WORDS, OTHER), OTHER),
        (WORDS, lambda home: unprotect(home, WORDS), None),
    ],
    ids=["set", "changed", "taken away"],
)
def test_a_crash_at_any_write_loses_no_key(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begin: str | None,
    deed: Callable[[Path], None],
    then: str | None,
) -> None:
    """After each number of writes the keys are there, under the old passphrase or the new one, and whole."""
    secrets = secrets_of(path, None)
    if begin is not None:
        protect(path, None, begin)
    start = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    real_write, real_unlink = key_files.write_atomically, Path.unlink
    for writes in range(10):
        left = writes

        def one_less() -> None:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1

        def write(file: Path, data: bytes) -> None:
            one_less()
            real_write(file, data)

        def unlink(file: Path, missing_ok: bool = False) -> None:
            one_less()
            real_unlink(file, missing_ok)

        with monkeypatch.context() as patched:
            patched.setattr(key_files, "write_atomically", write)
            patched.setattr(Path, "unlink", unlink)
            try:
                deed(path)
                finished = True
            except Crash:
                finished = False
        passphrases = [then] if finished else [begin, then]
        opened = [given for given in passphrases if _opens(path, given)]
        assert opened, f"after {writes} writes nothing opens the keys"
        assert secrets_of(path, opened[0]) == secrets
        if finished:
            return
        for file in list(path.iterdir()):
            if file.is_file() and file.name != "node.lock":
                file.unlink()
        for name, content in start.items():
            (path / name).write_bytes(content)
            (path / name).chmod(0o600)
    raise AssertionError("it never finished")


def _opens(home: Path, passphrase: str | None) -> bool:
    try:
        Home(home, passphrase).close()
    except Refused:
        return False
    return True


@pytest.mark.parametrize("then", [lambda home: Home(home, WORDS).close(), lambda home: protect(home, WORDS, OTHER)])
def test_what_a_killed_writer_left_in_clear_goes(path: Path, then: Callable[[Path], None]) -> None:
    """A process that is killed in the middle of a write cannot take its temporary file away."""
    in_clear = (path / KEY_FILES[0]).read_bytes()
    protect(path, None, WORDS)
    (path / f"{TEMPORARY_PREFIX}abc").write_bytes(in_clear)
    then(path)
    assert not [file.name for file in path.iterdir() if file.is_file() and b"PRIVATE KEY" in file.read_bytes()]


def test_the_next_start_ends_what_a_crash_left_half_done(path: Path) -> None:
    in_clear = (path / GROUP_FILE).read_bytes()
    protect(path, None, WORDS)
    (path / GROUP_FILE).write_bytes(in_clear)
    Home(path, WORDS).close()
    assert all_sealed(path) == {True}
