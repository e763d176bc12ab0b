"""fednode key, as a person calls it: passphrases from files, backups, and what is refused."""

import json
import os
from base64 import b64encode
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import node.home.sealing as sealing
from node.cli import cli, passphrases
from node.home.home import Home
from node.home.key_files import secret_files
from node.home.sealing import Cost, is_sealed
from protocol.errors import FednodeError
from protocol.identity import make_certificate
from protocol.keys import member_id_of, node_id_of, public_key_of

WORDS, OTHER = "correct horse battery", "staple staple staple"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "COST", Cost(n=2**4, r=8, p=1))
    for name in ("FEDNODE_PASSPHRASE", "FEDNODE_NEW_PASSPHRASE", "FEDNODE_BACKUP_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def words(tmp_path: Path) -> str:
    return written(tmp_path / "words", WORDS)


@pytest.fixture
def other(tmp_path: Path) -> str:
    return written(tmp_path / "other", OTHER)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that has run once: it has keys, and a certificate."""
    path = tmp_path / "home"
    with Home(path) as made:
        assert made.member_key is not None
        certificate = make_certificate(
            made.member_key,
            made.key,
            member_name="Ann",
            node_name="alpha",
            seal_key=made.seal_key.public_key().public_bytes_raw(),
            issued_at=1,
        )
    (path / "certificate").write_bytes(certificate)
    return path


def written(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def key(home: Path, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["key", *arguments, "--home", str(home)], input=stdin, env=environment or None)


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result: Result) -> str:
    """The error's code; a refusal's exit code is 4, that of words which make no sense 2."""
    code = str(json.loads(result.stderr.splitlines()[-1])["error"]["code"])
    assert result.exit_code == (2 if code.startswith("bad-") else 4), result.output
    return code


def ids(home: Path, passphrase: str | None = None) -> tuple[str, str, bytes]:
    with Home(home, passphrase) as opened:
        assert opened.member_key is not None
        return (
            node_id_of(public_key_of(opened.key)),
            member_id_of(public_key_of(opened.member_key)),
            opened.seal_key.private_bytes_raw(),
        )


# --- the passphrase --------------------------------------------------------------------------------------------
def test_keys_are_shown_with_whose_they_are(home: Path, words: str) -> None:
    node_id, member_id, _ = ids(home)
    for protected in (False, True):
        shown = told(key(home, "show", "--json"))
        assert shown["protected"] is protected
        assert [entry["id"] for entry in shown["keys"]][:2] == [node_id, member_id]
        assert {entry["sealed"] for entry in shown["keys"]} == {protected}
        text = key(home, "show").output
        assert node_id in text
        assert ("in clear" in text) is not protected
        if not protected:
            told(key(home, "protect", "--new-passphrase-file", words, "--json"))


def test_a_passphrase_is_set_changed_and_taken_away(home: Path, words: str, other: str) -> None:
    before = ids(home)
    assert told(key(home, "protect", "--new-passphrase-file", words, "--json")) == {"protected": True, "changed": False}
    assert {is_sealed(path.read_bytes()) for path in secret_files(home)} == {True}
    changed = key(home, "protect", "--passphrase-file", words, "--new-passphrase-file", other, "--json")
    assert told(changed)["changed"] is True
    assert ids(home, OTHER) == before
    assert refused(key(home, "unprotect", "--passphrase-file", words, "--json")) == "wrong-passphrase"
    assert told(key(home, "unprotect", "--passphrase-file", other, "--json")) == {"protected": False}
    assert ids(home) == before


def test_passphrases_come_from_the_environment_and_standard_input_too(home: Path) -> None:
    told(key(home, "protect", "--json", FEDNODE_NEW_PASSPHRASE=WORDS))
    assert "FEDNODE_NEW_PASSPHRASE" not in os.environ
    told(key(home, "protect", "--passphrase-file", "-", "--json", stdin=WORDS + "\n", FEDNODE_NEW_PASSPHRASE=OTHER))
    told(key(home, "unprotect", "--json", FEDNODE_PASSPHRASE=OTHER))
    ids(home)


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (WORDS, 0o644, "passphrase-not-private"),
        (WORDS, 0o640, "passphrase-not-private"),
        ("short", 0o600, "bad-passphrase"),
        ("", 0o600, "bad-passphrase"),
        ("two\nlines of it", 0o600, "bad-passphrase"),
        ("x" * 2000, 0o600, "bad-passphrase"),
    ],
)
def test_a_file_that_will_not_do_is_refused(home: Path, tmp_path: Path, content: str, mode: int, code: str) -> None:
    file = Path(written(tmp_path / "file", content))
    file.chmod(mode)
    assert refused(key(home, "protect", "--new-passphrase-file", str(file), "--json")) == code
    ids(home)


@pytest.mark.parametrize("raw", [WORDS.encode() + b"\r\n", b"\xef\xbb\xbf" + WORDS.encode(), WORDS.encode()])
def test_a_file_as_other_systems_write_it_will_do(home: Path, tmp_path: Path, words: str, raw: bytes) -> None:
    told(key(home, "protect", "--new-passphrase-file", words, "--json"))
    file = Path(written(tmp_path / "file", ""))
    file.write_bytes(raw)
    told(key(home, "unprotect", "--passphrase-file", str(file), "--json"))


@pytest.mark.parametrize("file", ["no-such-file", "~no-such-user/file", "."])
def test_a_file_that_cannot_be_read_is_said(home: Path, file: str) -> None:
    assert refused(key(home, "protect", "--new-passphrase-file", file, "--json")) == "no-passphrase"


def test_where_nobody_can_be_asked_it_says_how_to_give_it(home: Path, words: str) -> None:
    result = key(home, "protect", "--json")
    assert refused(result) == "passphrase-needed"
    assert "--new-passphrase-file" in result.stderr
    told(key(home, "protect", "--new-passphrase-file", words, "--json"))
    assert refused(key(home, "unprotect", "--json")) == "passphrase-needed"
    assert refused(key(home, "export", str(home.parent / "b"), "--unprotected", "--json")) == "passphrase-needed"


def test_a_running_nodes_keys_are_left_alone(home: Path, words: str, tmp_path: Path) -> None:
    with Home(home):
        for arguments in (
            ("protect", "--new-passphrase-file", words),
            ("unprotect",),
            ("export", str(tmp_path / "backup"), "--unprotected"),
        ):
            assert refused(key(home, *arguments, "--json")) == "already-running"
    told(key(home, "show", "--json"))


def test_a_node_that_runs_already_is_said_before_anybody_is_asked(
    home: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(key(home, "protect", "--new-passphrase-file", words, "--json"))
    monkeypatch.setattr(passphrases, "can_ask", lambda: True)
    with Home(home, WORDS):
        result = CliRunner().invoke(cli, ["start", "--home", str(home), "--detach"], input=WORDS + "\n")
    assert result.exit_code == 4
    assert "A node is running" in result.stderr
    assert "Passphrase" not in result.output


def test_a_short_passphrase_is_refused_before_it_is_typed_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrases, "can_ask", lambda: True)
    result = key(home, "protect", stdin="a\n" + WORDS + "\n")
    assert result.exit_code != 0
    assert "A passphrase of 1 character is guessed too soon" in result.output
    assert "Again" not in result.output


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("protect",), "--passphrase-file"),
        (("protect",), "--new-passphrase-file"),
        (("export", "x"), "--backup-passphrase-file"),
    ],
)
def test_a_file_that_others_can_read_is_named_with_its_own_option(
    home: Path, words: str, tmp_path: Path, command: tuple[str, ...], option: str
) -> None:
    if option == "--passphrase-file":
        told(key(home, "protect", "--new-passphrase-file", words, "--json"))
    file = Path(written(tmp_path / "file", WORDS))
    file.chmod(0o644)
    assert f" {option} - < {file}" in key(home, *command, option, str(file)).stderr


def test_the_readmes_block_can_be_run_from_top_to_bottom(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a node that runs only between its own start and stop, no command in it is refused for the other."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.partition("### Keys")[2].partition("```sh\n")[2].partition("```")[0]
    commands = [line.partition("#")[0].split()[1:] for line in block.splitlines()]
    assert {"stop", "key", "start"} == {command[0] for command in commands}
    monkeypatch.chdir(home.parent)
    runs = True
    for command in commands:
        if command[0] != "key":
            assert runs is (command[0] == "stop")
            runs = command[0] == "start"
            continue
        with Home(home, WORDS) if runs else nullcontext():
            variables = dict.fromkeys(
                ("FEDNODE_PASSPHRASE", "FEDNODE_NEW_PASSPHRASE", "FEDNODE_BACKUP_PASSPHRASE"), WORDS
            )
            told(key(home, *command[1:], "--json", **variables))


# --- backups ---------------------------------------------------------------------------------------------------
def test_a_backup_becomes_the_same_node_again(home: Path, tmp_path: Path, words: str, other: str) -> None:
    file = tmp_path / "backup"
    told(key(home, "export", str(file), "--backup-passphrase-file", words, "--json"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" not in file.read_bytes()
    new = tmp_path / "new"
    restored = told(key(new, "import", str(file), "--backup-passphrase-file", words, "--json"))
    assert sorted(restored["restored"]) == ["member.key", "node.key", "seal.key"]
    assert ids(new) == ids(home)
    assert (new / "certificate").read_bytes() == (home / "certificate").read_bytes()
    assert json.loads((new / "settings.json").read_text()) == {"name": "alpha", "member_name": "Ann"}
    again = told(key(new, "import", str(file), "--backup-passphrase-file", words, "--json"))
    assert again["restored"] == []
    assert refused(key(new, "import", str(file), "--backup-passphrase-file", other, "--json")) == "wrong-passphrase"


def test_a_home_under_a_passphrase_is_backed_up_and_restored_under_others(
    home: Path, tmp_path: Path, words: str, other: str
) -> None:
    before = ids(home)
    told(key(home, "protect", "--new-passphrase-file", words, "--json"))
    file, new = str(tmp_path / "backup"), tmp_path / "new"
    told(key(home, "export", file, "--passphrase-file", words, "--backup-passphrase-file", other, "--json"))
    told(key(new, "import", file, "--passphrase-file", words, "--backup-passphrase-file", other, "--json"))
    assert {is_sealed(path.read_bytes()) for path in secret_files(new)} == {True}
    assert ids(new, WORDS) == before


def test_a_restored_home_says_how_its_keys_lie(home: Path, tmp_path: Path, words: str) -> None:
    file = str(tmp_path / "backup")
    told(key(home, "export", file, "--backup-passphrase-file", words, "--json"))
    clear, same = tmp_path / "clear", tmp_path / "same"
    said = key(clear, "import", file, "--backup-passphrase-file", words)
    assert "lie there in clear" in said.stdout
    assert "fednode key protect" in said.stdout
    assert "beside the node that the backup is of" in said.output
    assert told(key(clear, "import", file, "--backup-passphrase-file", words, "--json"))["protected"] is False
    kept = told(key(same, "import", file, "--backup-passphrase-file", words, "--same-passphrase", "--json"))
    assert kept["protected"] is True
    assert {is_sealed(path.read_bytes()) for path in secret_files(same)} == {True}
    assert ids(same, WORDS) == ids(home)
    open_file = str(tmp_path / "open")
    told(key(home, "export", open_file, "--unprotected", "--json"))
    assert refused(key(tmp_path / "x", "import", open_file, "--same-passphrase", "--json")) == "bad-options"


def test_in_clear_only_when_that_is_said(home: Path, tmp_path: Path, words: str) -> None:
    file = tmp_path / "backup"
    assert refused(key(home, "export", str(file), "--json")) == "passphrase-needed"
    both = key(home, "export", str(file), "--unprotected", "--backup-passphrase-file", words, "--json")
    assert refused(both) == "bad-options"
    assert not file.exists()
    told(key(home, "export", str(file), "--unprotected", "--json"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert refused(key(home, "export", str(file), "--unprotected", "--json")) == "file-exists"
    told(key(tmp_path / "new", "import", str(file), "--json"))
    assert ids(tmp_path / "new") == ids(home)


def test_no_key_is_replaced_by_another(home: Path, tmp_path: Path) -> None:
    file, new = str(tmp_path / "backup"), tmp_path / "new"
    told(key(home, "export", file, "--unprotected", "--json"))
    Home(new).close()
    before = {path.name: path.read_bytes() for path in secret_files(new)}
    assert refused(key(new, "import", file, "--json")) == "another-identity"
    assert {path.name: path.read_bytes() for path in secret_files(new)} == before
    assert not (new / "certificate").exists()


def test_the_members_key_alone_goes_where_it_belongs(home: Path, tmp_path: Path) -> None:
    """A new node's home takes it, and one that was linked; one that was linked to somebody else does not."""
    file = str(tmp_path / "member")
    assert told(key(home, "export", file, "--member", "--unprotected", "--json"))["keys"] == ["member.key"]
    assert b"node.key" not in Path(file).read_bytes()
    told(key(tmp_path / "new", "import", file, "--json"))
    assert ids(tmp_path / "new")[1] == ids(home)[1]
    assert ids(tmp_path / "new")[0] != ids(home)[0]
    linked = tmp_path / "linked"
    told(key(linked, "import", file, "--json"))
    with Home(linked) as made, Home(home) as owner:
        assert owner.member_key is not None
        seal_key = made.seal_key.public_key().public_bytes_raw()
        names: dict[str, Any] = {"member_name": "Ann", "node_name": "b", "seal_key": seal_key, "issued_at": 1}
        certificate = make_certificate(owner.member_key, made.key, **names)
    (linked / "certificate").write_bytes(certificate)
    (linked / "member.key").unlink()
    assert told(key(linked, "import", file, "--json"))["restored"] == ["member.key"]
    (linked / "member.key").unlink()
    Home(tmp_path / "stranger").close()
    strange = str(tmp_path / "strange")
    told(key(tmp_path / "stranger", "export", strange, "--member", "--unprotected", "--json"))
    assert refused(key(linked, "import", strange, "--json")) == "another-identity"
    assert not (linked / "member.key").exists()


@pytest.mark.parametrize("content", ["", "rubbish", '{"fednode_backup": 2, "keys": {}}', '{"keys": {"../x.key": "a"}}'])
def test_what_is_no_backup_is_said(tmp_path: Path, content: str) -> None:
    file = written(tmp_path / "file", content)
    result = key(tmp_path / "new", "import", file, "--json")
    assert result.exit_code == 1
    assert "is no backup of keys" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_key_that_no_library_reads_is_said(tmp_path: Path) -> None:
    """An Ed448 key of an Ed25519 key's length: the library does not say of it that it is no key."""
    der = bytes.fromhex("302e020100300506032b657104220420") + bytes(32)
    pem = f"-----BEGIN PRIVATE KEY-----\n{b64encode(der).decode()}\n-----END PRIVATE KEY-----\n"
    file = written(tmp_path / "file", json.dumps({"keys": {"node.key": pem}}))
    result = key(tmp_path / "new", "import", file, "--json")
    assert result.exit_code == 1
    assert "is no backup of keys" in result.stderr


def test_an_import_that_was_cut_off_is_no_new_node(home: Path, tmp_path: Path) -> None:
    """It begins with the certificate and ends with the node's key; what is in between does not start."""
    file, half = str(tmp_path / "backup"), tmp_path / "half"
    told(key(home, "export", file, "--unprotected", "--json"))
    told(key(half, "import", file, "--json"))
    (half / "node.key").unlink()
    before = sorted(half.iterdir())
    with pytest.raises(FednodeError, match="is gone, and its certificate is there") as caught:
        Home(half)
    assert "once more" in caught.value.remedy
    assert sorted(half.iterdir()) == before
    assert told(key(half, "import", file, "--json"))["restored"] == ["node.key"]
    assert ids(half) == ids(home)


def test_there_is_nothing_to_back_up_in_an_empty_home(tmp_path: Path, words: str) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    arguments = ("export", str(tmp_path / "b"), "--passphrase-file", words, "--unprotected", "--json")
    assert refused(key(tmp_path / "empty", *arguments)) == "no-key"
    assert not (tmp_path / "empty" / "home.key").exists()
    assert refused(key(tmp_path / "nowhere", "show", "--json")) == "no-home"
