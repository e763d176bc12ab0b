"""Who is in a group, through the local API and on the command line."""

import json
from typing import Any

import pytest
import segno
from command_ground import done, run
from memory_service import MemoryService

from fednode import Client, RequestRefused
from node.membership.members_meant import member_meant
from protocol.errors import Refused

AT = "2026-01-01T08:30:00Z"


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.group_names.append("study")
    return service


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
    assert "removes Bo (Mbo) and its nodes (beta) from study" in no.stderr
    assert "come back only by a new invitation" in no.stderr
    assert service.calls == []
    assert "Bo (Mbo) is out of study" in done("group", "remove", "Bo", "--reason", "gone", stdin="y\n").stdout
    assert service.calls == [("remove", "ab" * 32, "Mbo", "gone")]
    assert json.loads(done("group", "remove", "Bo", "--yes", "--json").stdout)["kind"] == "member.remove"


def test_the_question_names_who_is_meant_however_they_are_called(service: MemoryService) -> None:
    (group,) = Client(service.home).groups()["groups"]
    bo = next(each for each in group["members"] if each["name"] == "Bo")
    (node,) = bo["nodes"]
    for called in (node["name"], node["node_id"], bo["member_id"]):
        assert "removes Bo (Mbo) and its nodes (beta) from study" in run("group", "remove", called, stdin="n\n").stderr


def test_nobody_is_asked_about_what_would_be_refused(service: MemoryService) -> None:
    """Who is not there, oneself, without the right to, and the last admin's leaving."""
    for command, code, why in (
        (("remove", "Zoe"), 1, "has no member 'Zoe'"),
        (("remove", "Ann"), 4, "does not remove itself"),
        (("leave",), 4, "last admin"),
    ):
        refused = run("group", *command, stdin="y\n")
        assert (refused.exit_code, "Go on?" in refused.output) == (code, False)
        assert why in refused.stderr
    service.role = "member"
    refused = run("group", "remove", "Bo", stdin="y\n")
    assert (refused.exit_code, "Go on?" in refused.output) == (4, False)
    assert "Only admins remove members" in refused.stderr
    assert service.calls == []


def test_a_member_is_meant_as_the_node_takes_it() -> None:
    def member(member_id: str, name: str, *nodes: str) -> dict[str, Any]:
        told = [{"node_id": f"12D3KooW{node}{member_id}", "name": node} for node in nodes]
        return {"member_id": member_id, "name": name, "role": "member", "admitted_at": AT, "nodes": told}

    members = [
        member("Mabcdefghijklm", "Ann", "alpha"),
        member("Mabcxyz", "alpha"),
        member("Mann", "Anna", "anna"),
        member("Mdan", "Dan", "anna", "hers", "dan"),
        member("Meve", "Dan", "hers"),
    ]

    def meant(text: str) -> str:
        try:
            return str(member_meant("study", members, text)["member_id"])
        except Refused as refused:
            return refused.code

    assert meant("alpha") == "Mabcxyz"  # a member's name goes before a node's
    assert meant("anna") == "Mann"  # however it is written: Dan's node of that name makes nothing unclear
    assert [meant("Mabcd"), meant("12D3KooWdanMdan")] == ["Mabcdefghijklm", "Mdan"]
    assert [meant("Mabc"), meant("Mab"), meant("zoe")] == ["ambiguous", "no-such-member", "no-such-member"]
    assert [meant("Dan"), meant("hers")] == ["ambiguous", "ambiguous"]
    with pytest.raises(Refused) as refused:
        member_meant("study", members, "Dan")
    assert "Mdan (Dan, member, nodes: anna, hers, dan, admitted 2026-01-01 08:30 UTC)" in refused.value.what
    assert "Meve (Dan, member, nodes: hers, admitted" in refused.value.what
    with pytest.raises(Refused, match="Mabcdefghijk "):
        member_meant("study", members, "Mabc")  # the beginnings of ids are told so far that they tell apart


def test_a_program_must_say_yes(service: MemoryService) -> None:
    service.role_of_bo = "admin"
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
    service.role_of_bo = "admin"
    assert "What is in this node's record stays" in done("group", "leave", "study", "--yes").stdout
    listed = done("group", "invitations").stdout
    assert "3f9c2a713f9c" in listed
    assert "open" in listed
    assert json.loads(done("group", "invitations", "--json").stdout)[0]["by_name"] == "Ann"
    assert "lets nobody into study" in done("group", "revoke-invitation", "3f9c2a71").stdout


def test_the_history_is_a_line_for_each_operation(service: MemoryService) -> None:
    result = done("group", "log")
    head, first, second = result.stdout.splitlines()
    assert head.split("  ")[0] == "WHEN (AS THEY SAY)"
    assert head.split()[-3:] == ["WHO", "WHAT", "OPERATION"]
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


def test_showing_a_group_says_who_is_in_and_who_is_not_any_more(service: MemoryService) -> None:
    """GROUP may be left out where there is one; ids, what people say of themselves, and revoked nodes are there."""
    shown = done("group", "show").stdout
    assert shown == done("group", "show", "study").stdout
    assert "MEMBER ID" in shown
    assert "Mbo" in shown
    assert "St. Bo, bo@bo.example" in shown
    assert [line.split()[:3] for line in shown.splitlines() if "lost" in line] == [["lost", "12D3KooWlost", "Bo"]]
    assert "removed by Ann" in shown
    assert "gone" in shown


def test_a_group_needs_a_name(service: MemoryService) -> None:
    for name in ("", "  "):
        refused = run("group", "create", name)
        assert refused.exit_code == 2
        assert "needs a name" in refused.stderr


def test_a_token_is_drawn_for_a_camera(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = done("invite", "--qr")
    assert result.stdout == "fed1token\n"
    assert service.calls[-1][-1] == "qr"
    rows = [line for line in result.stderr.splitlines() if "█" in line]
    side = len(segno.make_qr("FED1TOKEN", error="l").matrix) + 4
    assert [len(row) for row in rows[:-1]] == [side] * (len(rows) - 1)
    assert len(rows) in (side // 2, side // 2 + 1)
    monkeypatch.setenv("COLUMNS", "20")
    narrow = done("invite", "--qr")
    assert "make it wider, or send the text" in narrow.stderr
    assert "█" not in narrow.stderr
    assert "qr" not in json.loads(done("invite", "--qr", "--json").stdout)


# --- out of a group ----------------------------------------------------------------------------------------------
def out_of(service: MemoryService, name: str, how: str) -> None:
    facts = {"how": how, "removed": how != "left", "by": "Ann", "at": AT, "reason": ""}
    service.out_of[name] = {**facts, "text": f"This node is out of {name} by Ann", "remedy": "ask Ann"}


def test_who_is_out_reads_it_wherever_groups_are_shown(service: MemoryService) -> None:
    """By whom, why, and what to do; what one has left by oneself is in nobody's way."""
    service.group_names += ["old", "shut"]
    service.turned_away_from["shut"] = "beta does not let this node in any more: it was stolen"
    out_of(service, "study", "removed")
    out_of(service, "old", "left")
    for command in (["status"], ["group", "list"]):
        told = done(*command).output
        assert "This node is out of study by Ann. To fix: ask Ann" in told
        assert "beta does not let this node in any more: it was stolen. To fix: ask an admin of shut" in told
        assert "out of old" not in told
    listed = done("group", "list").output
    assert "none: removed" in listed
    assert "admin, but turned away" in listed
    assert "1 more that you have left" in listed
    assert "none: left" in done("group", "list", "--all").output
    assert [entry["name"] for entry in json.loads(done("group", "list", "--json").output)] == ["study", "old", "shut"]
    assert "To fix: ask Ann" in done("group", "show", "study").output
    refused = run("group", "leave", "study", "--yes")
    assert (refused.exit_code, "To fix: ask Ann" in refused.output) == (4, True)


def test_what_comes_next_for_who_is_out_of_everything_is_no_invitation(service: MemoryService) -> None:
    out_of(service, "study", "removed")
    step = done("status").output.partition("Next: ")[2]
    assert "fednode invite" not in step
    assert "fednode join TOKEN" in step


def test_the_group_that_is_not_named_is_the_one_that_this_node_is_in(service: MemoryService) -> None:
    service.group_names.insert(0, "old")
    out_of(service, "old", "left")
    service.role = "member"
    done("group", "leave", "--yes")
    assert service.calls[-1][:1] == ("leave",)
