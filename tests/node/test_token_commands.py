"""fednode token show, invite --addr and join -, on the command line (docs/protocol.md §4)."""

import io
import json
import time
from pathlib import Path

import pytest
from command_ground import run
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from memory_service import MemoryService

from node.cli.tokens import token_given
from node.membership.token_words import token_view
from protocol.entrance.device_link import make_device_token
from protocol.entrance.invitation import TokenBody, make_token
from protocol.errors import Refused
from protocol.fields import NodeAddresses
from protocol.keys import node_id_of, public_key_of
from protocol.token_text import token_payload, token_text

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NODE = node_id_of(public_key_of(KEY))
WEEK_S = 7 * 86_400


def a_token(*addresses: str, expires_in_s: int = WEEK_S) -> str:
    body = TokenBody(
        group=bytes(32),
        group_name="study",
        invite=bytes(range(32)),
        seed=b"s" * 32,
        role="observer",
        uses=3,
        expires_at=int(time.time()) + expires_in_s,
        entrances=(NodeAddresses(node_id=NODE, entrance_addresses=addresses or ("/ip4/192.168.1.7/tcp/4002",)),),
    )
    return make_token(KEY, body)


# --- token show ------------------------------------------------------------------------------------------------
def test_a_token_is_explained_with_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.31: as the argument or from standard input, broken by mail or not; and its secret stays in it."""
    monkeypatch.setenv("FEDNODE_HOME", str(tmp_path / "nobody"))
    token = a_token("/dns/node.example.org/tcp/7002", "/ip4/127.0.0.1/tcp/4002")
    quoted = "\n> ".join(token[at : at + 40] for at in range(0, len(token), 40))
    for result in (run("token", "show", token), run("token", "show", "-", stdin=quoted)):
        assert result.exit_code == 0, result.output
        words = result.stdout
        for part in ("study", NODE, "observer", "3", "good until", "node.example.org/tcp/7002 (from anywhere)"):
            assert part in words
        assert "yes: not expired" in words
        assert "NO" not in words
    told = json.loads(run("token", "show", "-", "--json", stdin=token).stdout)
    assert (told["kind"], told["state"], told["group"], told["uses"]) == ("invitation", "valid", "study", 3)
    assert told["warning"] == ""
    assert [entry["reach"] for entry in told["entrances"][0]["addresses"]] == ["anywhere", "machine"]
    assert "s" * 32 not in json.dumps(told)
    assert not (tmp_path / "nobody").exists()


def test_an_expired_token_is_explained_too() -> None:
    """§4.31, §4.32"""
    told = json.loads(run("token", "show", a_token(expires_in_s=-5), "--json").stdout)
    assert told["state"] == "expired"
    assert [check["good"] for check in told["checks"]] == [True, True, False]
    result = run("token", "show", a_token(expires_in_s=-5))
    assert "EXPIRED on" in result.stdout
    assert "by this machine's clock it is" in result.stdout


def test_a_token_that_leads_nowhere_far_says_so() -> None:
    """§4.31"""
    assert "Only machines on your local network" in run("token", "show", a_token()).stderr
    assert "this very machine" in run("token", "show", a_token("/ip4/127.0.0.1/tcp/4002")).stderr


def test_a_device_token_is_told_from_an_invitation() -> None:
    """§4.31"""
    host = NodeAddresses(node_id=NODE, entrance_addresses=("/ip4/192.168.1.7/tcp/4002",))
    until = int(time.time()) + 3600
    token = make_device_token(KEY, member_name="ann", seed=b"s" * 32, expires_at=until, host=host)
    told = json.loads(run("token", "show", "-", "--json", stdin=token).stdout)
    assert (told["kind"], told["member"], told["uses"], told["state"]) == ("device", "ann", 1, "valid")
    assert "device token of" in run("token", "show", token).stdout


def test_a_forged_one_is_not_explained() -> None:
    """§4.31: what it says may be anybody's invention, so none of it is shown."""
    payload = bytearray(token_payload(a_token()))
    payload[payload.index(b"study")] ^= 1
    with pytest.raises(Refused) as refused:
        token_view(token_text(bytes(payload)), now=0)
    assert refused.value.code == "forged"
    result = run("token", "show", token_text(bytes(payload)))
    assert result.exit_code == 4
    assert result.stdout == ""


@pytest.mark.parametrize("stdin", ["", "\n  \n", "hello"])
def test_what_is_no_token_is_named(stdin: str) -> None:
    result = run("token", "show", "-", stdin=stdin)
    assert result.exit_code == 4
    assert "token" in result.stderr


# --- invite and join -------------------------------------------------------------------------------------------
def test_addresses_for_outsiders_are_handed_on(service: MemoryService) -> None:
    result = run("invite", "--addr", "node.example.org:7001", "--addr", "198.51.100.7")
    assert result.exit_code == 0, result.output
    assert service.calls[-1][-2:] == ("node.example.org:7001", "198.51.100.7")
    assert "in this token alone" in result.stderr
    assert "fednode start --announce node.example.org:7001" in result.stderr
    assert run("invite", *(word for number in range(5) for word in ("--addr", f"h{number}"))).exit_code == 2


def test_a_token_may_come_from_standard_input(service: MemoryService) -> None:
    assert "You are in study" in run("join", "-", stdin="fed1\n  token\n").stdout
    assert "You are in study" in run("join", stdin="fed1\n  token\n").stdout  # as with -
    assert run("join", "-", stdin="").exit_code == 4
    assert run("join", stdin="").exit_code == 4


def test_at_a_terminal_the_token_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was pasted ends with an empty line, however many lines mail has made of it."""
    typed = io.StringIO("\nfed1\n> token\n\nmore\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)
    assert token_given("-") == "fed1>token"
    assert "Paste the token" in capsys.readouterr().err
    assert typed.read() == "more\n"


def test_an_expired_invitation_is_not_called_good(service: MemoryService) -> None:
    good, late = run("join", a_token()), run("join", a_token(expires_in_s=-20))
    assert "is good until" in good.stderr
    assert "good until" not in late.stderr


def test_whoever_joins_with_a_device_token_is_asked_first(service: MemoryService) -> None:
    """It gives the whole machine to the token's member: nobody is led into that by what looks like an invitation."""
    host = NodeAddresses(node_id=NODE, entrance_addresses=("/ip4/192.168.1.7/tcp/4002",))
    until = int(time.time()) + 3600
    token = make_device_token(KEY, member_name="mallory", seed=b"s" * 32, expires_at=until, host=host)
    for stdin in ("n\n", ""):
        refused = run("join", token, stdin=stdin)
        assert refused.exit_code != 0
        assert "a node of mallory" in refused.output
    assert run("join", token, "--json").exit_code == 2
    assert service.calls == []
    for done in (run("join", token, "--yes"), run("join", token, stdin="y\n")):  # the node is asked, and knows better
        assert done.exit_code == 4
        assert "a node of mallory" not in done.stdout
