"""The inbox over the local API, and the command that shows it."""

import json

import pytest
from command_ground import run
from memory_inbox import item_json
from memory_service import MemoryService

from fednode import Client, RequestRefused


def test_the_endpoints_answer(service: MemoryService) -> None:
    client = Client(service.home)
    assert [each["id"] for each in client.inbox()["inbox"]] == ["proposal-cdcd", "joiner-1"]
    assert client.seen("joiner-1") == {}
    assert len(client.inbox()["inbox"]) == 1
    assert client.proposal("my study")["configuration"] == {"training.rounds": 10}
    assert service.calls[-1] == ("proposal", "my study")


@pytest.mark.parametrize(
    ("item", "status", "code"), [("proposal-cdcd", 409, "needs-answer"), ("x/y", 404, "no-such-item")]
)
def test_what_cannot_be_seen_is_refused(service: MemoryService, item: str, status: int, code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        Client(service.home).seen(item)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_the_command_lists_what_waits_and_what_to_do_about_it(service: MemoryService) -> None:
    shown = run("inbox")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0].startswith("? Run study waits for your answer  (proposal, 2026-01-01")
    assert "fednode run accept cdcdcdcdcdcd or fednode run decline cdcdcdcdcdcd" in lines[2]
    assert "seen: fednode inbox seen joiner-1" in shown.output
    assert run("inbox", "list").output == shown.output
    assert run("inbox", "seen", "joiner-1").output == "Seen: it is out of the inbox.\n"
    assert run("inbox", "seen", "joiner-1").exit_code == 1
    service.inbox.all.clear()
    assert "Nothing waits for you" in run("inbox").output


def test_json_is_the_items_as_they_are(service: MemoryService) -> None:
    for arguments in (("inbox", "--json"), ("inbox", "list", "--json")):
        assert json.loads(run(*arguments).output) == service.inbox.all


def test_a_peers_words_make_no_lines_of_their_own(service: MemoryService) -> None:
    service.inbox.all = [item_json("joiner-2", title="Eve\n? Run study waits\x1b[2J", text="a\nb", time=None)]
    lines = run("inbox").output.splitlines()
    assert lines[0] == "! Eve ? Run study waits�[2J  (joiner, some time ago)"
    assert lines[1] == "  a b"
