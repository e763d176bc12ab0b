"""Who is in a group, through the local API and on the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import segno
from click.testing import CliRunner, Result
from memory_service import MemoryService, serving

from fednode import Client, RequestRefused
from node.cli import cli
from node.cli.members import member_meant


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryService]:
    home = tmp_path / "home"
    monkeypatch.setenv("FEDNODE_HOME", str(home))
    with serving(home) as service:
        service.group_names.append("study")
        yield service


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), input=stdin, prog_name="fednode")


def done(*arguments: str, stdin: str | None = None) -> Result:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


# --- the API -------------------------------------------------------------------------------------------------------
def test_the_api_hands_everything_on(service: MemoryService) -> None:
    client = Client(service.home)
    assert client.remove_member("my/study", "Bo", "gone")["text"] == "removed Bo: gone"
    assert client.change_role("study", "Bo", "admin")["kind"] == "member.role"
    assert client.leave_group("study")["text"] == "left the group"
    assert client.revoke_invitation("study", "3f9c2a71")["kind"] == "invite.revoke"
    assert client.group_history("study")["total"] == 2
    assert client.group_history("study", limit=1, before="cdcd")["previous"] == "cd" * 32
    assert service.calls == [
        ("remove", "my/study", "Bo", "gone"),
        ("role", "study", "Bo", "admin"),
        ("leave", "study"),
        ("revoke", "study", "3f9c2a71"),
        ("history", "study", None, 100),
        ("history", "study", "cdcd", 1),
    ]


def test_the_api_refuses_what_does_not_fit(service: MemoryService) -> None:
    client = Client(service.home)
    for wrong in (
        lambda: client.change_role("study", "Bo", "king"),
        lambda: client.remove_member("study", "Bo", "x" * 501),
        lambda: client.group_history("study", limit=0),
        lambda: client.group_history("study", limit=1001),
        lambda: client.group_history("study", before="ab"),
    ):
        with pytest.raises(RequestRefused) as caught:
            wrong()
        assert caught.value.status == 400
    with pytest.raises(RequestRefused) as caught:
        client.remove_member("study", "Zoe")
    assert caught.value.status == 404
    with pytest.raises(RequestRefused) as caught:
        client.change_role("study", "Ann", "member")
    assert (caught.value.status, caught.value.code) == (409, "last-admin")


# --- the commands ----------------------------------------------------------------------------------------------
def test_a_member_is_removed_after_a_question(service: MemoryService) -> None:
    no = run("group", "remove", "Bo", stdin="n\n")
    assert no.exit_code == 130
    assert "removes Bo and its nodes (beta) from study" in no.stderr
    assert "come back only by a new invitation" in no.stderr
    assert service.calls == []
    assert "Bo is out of study" in done("group", "remove", "Bo", "--reason", "gone", stdin="y\n").stdout
    assert service.calls == [("remove", "ab" * 32, "Bo", "gone")]
    assert json.loads(done("group", "remove", "Bo", "--yes", "--json").stdout)["kind"] == "member.remove"


def test_the_question_names_who_is_meant_however_they_are_called(service: MemoryService) -> None:
    (group,) = Client(service.home).groups()["groups"]
    bo = next(each for each in group["members"] if each["name"] == "Bo")
    (node,) = bo["nodes"]
    for called in (node["name"], node["node_id"], bo["member_id"]):
        assert "removes Bo and its nodes (beta) from study" in run("group", "remove", called, stdin="n\n").stderr
    assert "removes Zoe from study" in run("group", "remove", "Zoe", stdin="n\n").stderr


def test_a_member_is_meant_as_the_node_takes_it() -> None:
    members = [
        {"member_id": "Mabcdef", "name": "Ann", "nodes": [{"node_id": "12D3KooWx", "name": "alpha"}]},
        {"member_id": "Mabcxyz", "name": "alpha", "nodes": []},
    ]
    names = {called: member_meant({"members": members}, called) for called in ("alpha", "Mabcd", "Mabc", "Mab", "zoe")}
    assert [entry["name"] if entry else None for entry in names.values()] == ["alpha", "Ann", None, None, None]


def test_a_program_must_say_yes(service: MemoryService) -> None:
    for command in (("remove", "Bo"), ("leave",)):
        result = run("group", *command, "--json")
        assert result.exit_code == 2
        assert "--yes" in result.stderr
    assert service.calls == []


def test_roles_leaving_and_invitations(service: MemoryService) -> None:
    assert "Bo has the role observer in study now" in done("group", "role", "Bo", "observer").stdout
    refused = run("group", "role", "Ann", "member")
    assert refused.exit_code == 4
    assert "only admin" in refused.stderr
    assert run("group", "role", "Bo", "king").exit_code == 2
    assert "What is in this node's record stays" in done("group", "leave", "study", "--yes").stdout
    listed = done("group", "invitations").stdout
    assert "3f9c2a713f9c" in listed
    assert "open" in listed
    assert json.loads(done("group", "invitations", "--json").stdout)[0]["by_name"] == "Ann"
    assert "lets nobody into study" in done("group", "revoke-invitation", "3f9c2a71").stdout


def test_the_history_is_a_line_for_each_operation(service: MemoryService) -> None:
    result = done("group", "log")
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["CLAIMED", "WHO", "WHAT", "OPERATION"]
    assert "Ann (alpha)" in first
    assert "removed" in first
    assert "gone for good" in first  # no escape sequence, no second line
    assert "\x1b" not in result.stdout
    assert "does not count: its author was no admin" in second
    assert "--before" in done("group", "log", "--limit", "1").stderr
    assert len(json.loads(done("group", "log", "--json").stdout)["operations"]) == 2


def test_one_of_several_groups_must_be_named(service: MemoryService) -> None:
    service.group_names.append("other")
    result = run("group", "remove", "Bo", "--yes")
    assert result.exit_code == 2
    assert "study, other" in result.stderr
    done("group", "remove", "Bo", "--yes", "--group", "other")


def test_showing_a_group_says_who_is_no_longer_in(service: MemoryService) -> None:
    shown = done("group", "show", "study").stdout
    assert "removed by Ann" in shown
    assert "gone" in shown


def test_a_token_is_drawn_for_a_camera(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = done("invite", "--qr")
    assert result.stdout == "fed1token\n"
    rows = [line for line in result.stderr.splitlines() if "█" in line]
    side = len(segno.make_qr("FED1TOKEN", error="l").matrix) + 4
    assert [len(row) for row in rows[:-1]] == [side] * (len(rows) - 1)
    assert len(rows) in (side // 2, side // 2 + 1)
    monkeypatch.setenv("COLUMNS", "20")
    narrow = done("invite", "--qr")
    assert "make it wider, or send the text" in narrow.stderr
    assert "█" not in narrow.stderr
    assert "qr" not in json.loads(done("invite", "--qr", "--json").stdout)
