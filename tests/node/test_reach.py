"""Addresses that people give, and how far they reach (docs/protocol.md §4)."""

import json
from pathlib import Path

import pytest

from node.home.doctor_checks import local_network_check
from node.home.home import Home
from node.network.reach import entrance_beside, host_and_port, outside_address, reach_of, warning_about
from protocol.errors import FednodeError, Refused

GIVEN = {
    "node.example.org": "/dns/node.example.org/tcp/4001",
    "node.example.org:7001": "/dns/node.example.org/tcp/7001",
    " 198.51.100.7:80 ": "/ip4/198.51.100.7/tcp/80",
    "198.51.100.7": "/ip4/198.51.100.7/tcp/4001",
    "[2001:db8::7]:7001": "/ip6/2001:db8::7/tcp/7001",
    "2001:db8::7": "/ip6/2001:db8::7/tcp/4001",
    "xn--bcher-kva.example:1": "/dns/xn--bcher-kva.example/tcp/1",
    "/dns/node.example.org/tcp/7001": "/dns/node.example.org/tcp/7001",
    "localhost:4001": "/dns/localhost/tcp/4001",
}


@pytest.mark.parametrize("text", GIVEN)
def test_what_people_write_is_understood(text: str) -> None:
    """§4.33"""
    assert outside_address(text, 4001) == GIVEN[text]
    assert outside_address(GIVEN[text], 1) == GIVEN[text]


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":4001", "host:", "host:0", "host:65535", "host:99999", "host:-1", "host:4001:4002", "host:x"),
        *("0.0.0.0:4001", "[::]:4001", "224.0.0.251:4001", "256.1.1.1", "1.2.3", "999:4001", "a b:1", "/ip4/x/tcp/1"),
        *("-host:1", "host-:1", "ho_st:1", "host..org:1", "a/b:1", "x" * 254 + ":1", "hóst:1", "host\n:1", "[::1]x:1"),
        "/ip4/198.51.100.7/udp/4001",
    ],
)
def test_what_nobody_can_dial_is_refused(text: str) -> None:
    """§4.33"""
    with pytest.raises(FednodeError):
        outside_address(text, 4001)


def test_a_refusal_says_how_to_write_it() -> None:
    """§4.33"""
    with pytest.raises(Refused, match="no address that others can dial") as refused:
        outside_address("0.0.0.0", 4001)
    assert "HOST:PORT" in refused.value.remedy


def test_the_entrance_has_the_next_port() -> None:
    """§4.33"""
    assert entrance_beside("/dns/node.example.org/tcp/7001") == "/dns/node.example.org/tcp/7002"
    assert host_and_port("/ip6/::1/tcp/65535") == ("::1", 65535)


REACHES = {
    "/ip4/127.0.0.1/tcp/1": "machine",
    "/ip6/::1/tcp/1": "machine",
    "/dns/localhost/tcp/1": "machine",
    "/ip4/10.1.2.3/tcp/1": "network",
    "/ip4/192.168.1.7/tcp/1": "network",
    "/ip4/100.64.0.1/tcp/1": "network",
    "/ip4/169.254.1.1/tcp/1": "network",
    "/ip6/fd00::1/tcp/1": "network",
    "/dns/nas/tcp/1": "network",
    "/dns/nas.local/tcp/1": "network",
    "/ip4/8.8.8.8/tcp/1": "anywhere",
    "/ip6/2606:4700::1/tcp/1": "anywhere",
    "/dns4/node.example.org/tcp/1": "anywhere",
    "/unix/tmp/socket": "",
}


@pytest.mark.parametrize("address", REACHES)
def test_how_far_an_address_reaches(address: str) -> None:
    assert reach_of(address) == REACHES[address]


def test_a_token_that_leads_nowhere_far_is_warned_of() -> None:
    """§4.31: with what to do; one good address is enough."""
    machine, network, anywhere = "/ip4/127.0.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1", "/ip4/8.8.8.8/tcp/1"
    assert warning_about([machine, network, anywhere]) == ""
    assert "local network" in warning_about([machine, network])
    assert "this very machine" in warning_about([machine])
    assert "nobody can use it" in warning_about([])
    for some in ([], [machine], [network]):
        assert "--addr HOST:PORT" in warning_about(some)
        assert "--announce HOST:PORT" in warning_about(some, is_link=True)  # fednode link has no --addr
        assert "--addr" not in warning_about(some, is_link=True)


# --- what is remembered ----------------------------------------------------------------------------------------
def test_addresses_for_outsiders_are_remembered(tmp_path: Path) -> None:
    """§4.33: with the door's own port where none is given, until others are given, or none."""
    with Home(tmp_path) as home:
        assert home.settings(listen="/ip4/0.0.0.0/tcp/4001").announce == ""
        home.settings(announce=("node.example.org", "198.51.100.7:80"))
        assert home.settings().announce == "/dns/node.example.org/tcp/4001 /ip4/198.51.100.7/tcp/80"
        assert home.settings(announce=("other:1",)).announce == "/dns/other/tcp/1"
        with pytest.raises(Refused, match="no address that others can dial"):
            home.settings(announce=("0.0.0.0",))
        assert home.settings().announce == "/dns/other/tcp/1"
        assert home.settings(announce=("none",)).announce == home.settings().announce == ""


def test_the_local_network_stays_off_until_it_is_on_again(tmp_path: Path) -> None:
    """§12.6"""
    with Home(tmp_path) as home:
        assert home.settings().mdns == "on"
        assert home.settings(mdns=False).mdns == home.settings().mdns == "off"
        assert home.settings(mdns=True).mdns == home.settings().mdns == "on"


@pytest.mark.parametrize("wrong", [{"mdns": "perhaps"}, {"announce": "nonsense!"}])
def test_settings_that_make_no_sense_are_named(tmp_path: Path, wrong: dict[str, str]) -> None:
    with Home(tmp_path) as home:
        home.settings()
        known = json.loads((tmp_path / "settings.json").read_text())
        (tmp_path / "settings.json").write_text(json.dumps({**known, **wrong}))
        with pytest.raises(FednodeError, match=r"settings.*cannot be read.*" + next(iter(wrong))):
            home.settings()


def test_a_doctor_says_what_keeps_the_local_network_away() -> None:
    assert local_network_check(True, "").state == "ok"
    assert local_network_check(False, "").state == "ok"
    trouble = local_network_check(True, "no such device")
    assert (trouble.state, bool(trouble.remedy)) == ("warning", True)
    assert "no such device" in trouble.text
