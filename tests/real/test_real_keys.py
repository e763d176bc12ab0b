"""Keys of real nodes: a start with each way to give the passphrase, a backup that becomes the node, the doctor."""

import json
import os
import pty
import select
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from nodes import RealNode, real_nodes, wait_until
from real_node import COMMAND_DEADLINE_S, ROOT

from node.home.key_files import secret_files
from node.home.sealing import is_sealed

WORDS = "correct horse battery"
WRONG = "correct horse battrey"


class ProtectedNode(RealNode):
    """A node whose keys are under a passphrase, which stands in a file beside its home."""

    def __init__(self, base: Path, name: str, *, breakable: bool = False) -> None:
        super().__init__(base, name, breakable=breakable)
        self.words = written(base / f"{name}.words", WORDS)

    def _command(self, *arguments: str) -> list[str]:
        is_start = arguments[0] == "start" and "--passphrase-file" not in arguments
        return super()._command(*arguments, *(("--passphrase-file", str(self.words)) if is_start else ()))

    @property
    def bare(self) -> RealNode:
        """The same home, by commands that do not give the passphrase."""
        return RealNode(self.home.parent, self.name)


def written(path: Path, words: str) -> Path:
    path.write_text(words + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ProtectedNode]]:
    """ann and ben, of two members that are both admins of a group."""
    base = tmp_path_factory.mktemp("keys")
    with real_nodes(base, "ann", "ben", kind=ProtectedNode) as nodes:
        ann, ben = nodes
        ann.client.create_group("ward")
        ben.client.join(ann.client.invite(uses=1)["token"])
        member = next(entry for entry in ann.client.group("ward")["members"] if entry["role"] != "admin")
        ann.client.change_role("ward", member["member_id"], "admin")
        wait_until(lambda: "ben" in ann.connected_to(), "ann meets ben")
        yield nodes  # type: ignore[misc]


def checks(node: RealNode) -> dict[str, dict[str, str]]:
    """What the doctor says, by name; exit code 1 is for what is wrong, and nothing here is."""
    return {check["name"]: check for check in node.told("doctor")["checks"]}


def files(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*secret_files(home), home / "home.key"]}


def test_the_doctor_finds_all_well(two: list[ProtectedNode]) -> None:
    ann, ben = two
    told = checks(ann)
    assert {check["state"] for check in told.values()} == {"ok"}, told
    assert "1 other" in told["clock"]["text"]
    assert told["reach"]["text"].startswith("ben: connected, direct")
    shown = ben.cli("doctor")
    assert shown.returncode == 0
    assert "✓ ok" in shown.stdout
    assert "All is well." in shown.stdout


def test_all_that_is_secret_lies_under_the_passphrase(two: list[ProtectedNode]) -> None:
    for node in two:
        kept = files(node.home)
        assert len(kept) == 5  # node, member, seal, home, and one group
        assert {is_sealed(raw) for name, raw in kept.items() if name != "home.key"} == {True}
        for path in node.home.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert WORDS.encode() not in content
            assert b"PRIVATE KEY" not in content
        process = psutil.Process(node.pid)
        assert WORDS not in " ".join([*process.cmdline(), *process.environ().values()])


def test_the_wrong_passphrase_is_refused_and_changes_nothing(two: list[ProtectedNode], tmp_path: Path) -> None:
    _, ben = two
    ben.end()
    before = files(ben.home)
    code, error = ben.refusal("start", "--detach", "--passphrase-file", str(written(tmp_path / "wrong", WRONG)))
    assert (code, error["code"]) == (4, "wrong-passphrase")
    code, error = ben.bare.refusal("start", "--detach")
    assert (code, error["code"], "--passphrase-file" in error["remedy"]) == (4, "passphrase-needed", True)
    done = ben.bare.cli("start", "--passphrase-file", "-", "--json", stdin=WRONG)
    assert (done.returncode, json.loads(done.stderr.splitlines()[-1])["error"]["code"]) == (4, "wrong-passphrase")
    assert files(ben.home) == before
    stopped = checks(ben)
    assert (stopped["node"]["state"], stopped["passphrase"]["state"]) == ("warning", "ok")
    assert "fednode start" in stopped["node"]["remedy"]


def test_who_is_off_is_told_with_the_reason(two: list[ProtectedNode]) -> None:
    ann, ben = two
    if ben.is_running:
        ben.end()
    said = "nobody listens at that port"
    wait_until(lambda: said in checks(ann)["reach"]["text"], "ann finds nobody where ben was")
    assert checks(ann)["reach"]["state"] == "warning"


def test_a_person_at_a_terminal_is_asked_before_the_node_goes_into_the_background(two: list[ProtectedNode]) -> None:
    _, ben = two
    if ben.is_running:
        ben.end()
    ours, status = typed([*ben.bare._command("start", "--detach", "--listen", "127.0.0.1")], "Passphrase", WORDS)
    assert os.waitstatus_to_exitcode(status) == 0, ours
    assert WORDS not in ours  # what is typed is not shown
    assert "Node ben is running" in ours
    detached = psutil.Process(ben.client.status()["pid"])
    assert WORDS not in " ".join([*detached.cmdline(), *detached.environ().values()])
    group = ben.client.group("ward")
    assert group["role"] == "admin"  # the group's key was opened too
    ben.client.stop()
    wait_until(lambda: not detached.is_running() or detached.status() == psutil.STATUS_ZOMBIE, "it ends")
    ben.start()


def typed(command: list[str], prompt: str, words: str) -> tuple[str, int]:
    """Run `command` at a terminal of its own, type `words` at the prompt; what was shown, and how it ended."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(command[0], command)
    shown = b""

    def read() -> bool:
        """Whether the program has closed the terminal."""
        nonlocal shown
        readable, _, _ = select.select([terminal], [], [], COMMAND_DEADLINE_S)
        assert readable, f"nothing more came after: {shown!r}"
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            return True
        shown += piece
        return not piece

    try:
        while prompt.encode() not in shown:
            assert not read(), shown
        os.write(terminal, words.encode() + b"\n")
        while not read():
            pass
        return shown.decode(), os.waitpid(child, 0)[1]
    finally:
        os.close(terminal)


def test_a_backup_becomes_the_node_again_and_an_invitation_brings_it_back(
    two: list[ProtectedNode], tmp_path: Path
) -> None:
    """As after the loss of a machine: a backup has no groups. Who is a member still is let in, and the invitation keeps
    its use."""
    ann, ben = two
    if not ben.is_running:
        ben.start()
    node_id, member_id = ann.node_id, ann.client.status()["member_id"]
    known = {member["name"] for member in ann.client.group("ward")["members"]}
    backup, own = tmp_path / "backup", written(tmp_path / "own", "a passphrase of its own")
    arguments = ("--passphrase-file", str(ann.words), "--backup-passphrase-file", str(own))
    assert ann.refusal("key", "export", str(backup), *arguments)[1]["code"] == "already-running"
    ann.end()
    ann.told("key", "export", str(backup), *arguments)
    shutil.move(ann.home, tmp_path / "lost")
    ann.told("key", "import", str(backup), *arguments)
    assert {entry["id"] for entry in ann.told("key", "show")["keys"]} >= {node_id, member_id}
    ann.start()
    assert (ann.client.status()["node_id"], ann.client.groups()["groups"]) == (node_id, [])
    ann.client.join(ben.client.invite(uses=1)["token"])
    group = ann.client.group("ward")
    assert (group["role"], {member["name"] for member in group["members"]}) == ("admin", known)
    assert [entry["used"] for entry in group["invitations"]] == [1, 0]
    wait_until(lambda: "ben" in ann.connected_to() and "ann" in ben.connected_to(), "they meet again")
    ann.client.change_role("ward", member_id, "member")  # what it says now rests on what it said before
    wait_until(lambda: ben.client.group("ward")["members"][0]["role"] == "member", "ben hears of it")
