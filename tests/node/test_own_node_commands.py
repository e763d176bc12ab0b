"""One's own nodes and one's profile, through the local API and on the command line."""

import json

import pytest
from command_ground import done, run
from memory_service import MemoryService

from fednode import Client, RequestRefused


def test_the_api_hands_everything_on(service: MemoryService) -> None:
    client = Client(service.home)
    assert next(each["name"] for each in client.nodes()["nodes"]) == "alpha"
    assert client.link_node(600)["token"].startswith("fednode-link1-")
    assert client.revoke_node("laptop")["groups"] == ["study"]
    assert client.revoke_link("cdcd")["link_id"] == "cd" * 32
    assert client.profile()["organisation"] == ""
    assert client.set_profile(organisation="St. Anna")["organisation"] == "St. Anna"
    assert client.set_profile(organisation="")["organisation"] == ""
    changes = {"name": None, "organisation": "St. Anna", "contact": None}
    assert service.calls == [
        ("link", 600),
        ("revoke-node", "laptop"),
        ("revoke-link", "cdcd"),
        ("profile", changes),
        ("profile", {**changes, "organisation": ""}),
    ]


def test_the_api_refuses_what_does_not_fit(service: MemoryService) -> None:
    client = Client(service.home)
    for wrong in (
        lambda: client.link_node(0),
        lambda: client.link_node(-5),
        lambda: client.revoke_node(""),
        lambda: client.revoke_node("x" * 201),
    ):
        with pytest.raises(RequestRefused) as caught:
            wrong()
        assert caught.value.status == 400
    with pytest.raises(RequestRefused) as caught:
        client.revoke_node("alpha")
    assert (caught.value.status, caught.value.code) == (409, "revoking-itself")


def test_a_token_is_printed_alone(service: MemoryService) -> None:
    result = done("link", "--expires", "10m")
    assert result.stdout == "fednode-link1-abc\n"
    assert "--link TOKEN" in result.stderr
    assert "local network" in result.stderr
    assert service.calls == [("link", 600)]
    drawn = done("link", "--qr")
    assert drawn.stdout == "fednode-link1-abc\n"
    assert len(drawn.stderr.splitlines()) > 5
    assert json.loads(done("link", "--qr", "--json").stdout)["token"] == "fednode-link1-abc"
    assert service.calls[-1] == ("link", 3600)


@pytest.mark.parametrize("command", [["nodes"], ["nodes", "list"]])
def test_ones_nodes_are_listed(service: MemoryService, command: list[str]) -> None:
    shown = done(*command).stdout
    assert "this node" in shown
    assert "revoked 2026-01-02" in shown
    assert "\x1b[2J" not in shown
    assert json.loads(done(*command, "--json").stdout)["member_id"] == "MAnn"


def test_whoever_revokes_is_asked_first(service: MemoryService) -> None:
    laptop = "12D3KooWlap"
    result = run("nodes", "revoke", laptop, stdin="n\n")
    assert result.exit_code == 130
    assert "lap\ufffd[2Jtop (12D3KooWlap" in result.stderr  # nothing of it moves the cursor
    assert "out of study, and away from your other nodes" in result.stderr
    assert "for good" in result.stderr
    assert service.calls == []
    assert "is revoked in study" in done("nodes", "revoke", laptop, stdin="y\n").output
    assert json.loads(done("nodes", "revoke", laptop, "--yes", "--json").stdout)["groups"] == ["study"]


@pytest.mark.parametrize(
    ("node", "code", "why"),
    [("nosuch", 1, "You have no node"), ("alpha", 4, "does not revoke itself"), ("old", 4, "is revoked already")],
)
def test_nobody_is_asked_about_a_node_that_is_not_to_be_revoked(
    service: MemoryService, node: str, code: int, why: str
) -> None:
    for more in ((), ("--yes",)):
        refused = run("nodes", "revoke", node, *more, stdin="y\n")
        assert (refused.exit_code, "Go on?" in refused.output) == (code, False)
        assert why in refused.stderr
    assert service.calls == []


def test_a_device_token_is_taken_back(service: MemoryService) -> None:
    assert "cdcdcdcdcdcd links no machine any more" in done("nodes", "revoke-link", "cdcd").stdout
    assert json.loads(done("nodes", "revoke-link", "cdcd", "--json").stdout)["link_id"] == "cd" * 32
    assert service.calls == [("revoke-link", "cdcd"), ("revoke-link", "cdcd")]


def test_the_profile_is_shown_and_changed(service: MemoryService) -> None:
    assert "(not said)" in done("profile").stdout
    shown = done("profile", "--organisation", "St. Anna", "--contact", "ann@anna.example").stdout
    assert "St. Anna" in shown
    assert json.loads(done("profile", "--json").stdout)["contact"] == "ann@anna.example"
    assert done("profile", "--contact", "").stdout.count("(not said)") == 1
