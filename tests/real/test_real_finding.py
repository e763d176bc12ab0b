"""Real nodes that have moved find each other again, and tokens with addresses that were given by hand (§12, §4.30)."""

import json
from pathlib import Path

import pytest
from nodes import STOP_S, RealNode, real_nodes, start_all, wait_until, wait_until_connected

FINDING_S = 90.0  # two comparisons of logs, at the longest pauses between dials


def found(node: RealNode, others: set[str]) -> None:
    wait_until(lambda: node.connected_to() >= others, f"{node.name} finds {', '.join(others)}", FINDING_S)


def set_settings(node: RealNode, **changes: str | None) -> None:
    """Edit the settings of a stopped node; None forgets one."""
    path = node.home / "settings.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({key: value for key, value in {**known, **changes}.items() if value is not None}))


def port_of(node: RealNode) -> str:
    return str(node.client.status()["addresses"][0])


def form(nodes: list[RealNode]) -> None:
    first, *others = nodes
    first.client.create_group("movers")
    token = first.client.invite(uses=len(nodes))["token"]
    for node in others:
        node.client.join(token)
    wait_until_connected(nodes)


def move(nodes: list[RealNode]) -> None:
    """Stop them all, and start them at ports that nobody has heard of."""
    before = [port_of(node) for node in nodes]
    for node in nodes:
        assert node.end() < STOP_S
    for node in nodes:
        set_settings(node, listen=None)
    start_all(nodes)
    assert all(was != port_of(node) for was, node in zip(before, nodes, strict=True))


class Unannounced(RealNode):
    """A node that neither speaks nor listens on the local network."""

    def __init__(self, base: Path, name: str, *, breakable: bool = False) -> None:
        super().__init__(base, name, breakable=breakable)
        set_settings(self, mdns="off")


def test_a_group_finds_itself_again_through_the_one_that_stayed(tmp_path: Path) -> None:
    """§12.4: three of four are at other addresses at once, and have only stale ones of each other."""
    with real_nodes(tmp_path, "ann", "ben", "cleo", "dan", kind=Unannounced) as nodes:
        assert nodes[0].client.status()["local_network"] == {"on": False, "trouble": ""}
        form(nodes)
        move(nodes[1:])
        names = {node.name for node in nodes}
        for node in nodes:
            found(node, names - {node.name})


def test_the_local_network_alone_brings_two_together(tmp_path: Path) -> None:
    """§12.6, §12.7: both have moved, so that neither knows an address of the other's that is right."""
    with real_nodes(tmp_path, "eva", "fred") as nodes:
        form(nodes)
        seen = [node.client.status()["local_network"] for node in nodes]
        if any(each["trouble"] for each in seen):
            pytest.skip(f"this machine has no multicast: {seen[0]['trouble']}")
        assert seen == [{"on": True, "trouble": ""}] * 2
        move(nodes)
        for node, other in (nodes, reversed(nodes)):
            found(node, {other.name})


def test_a_token_with_a_name_that_is_looked_up(tmp_path: Path) -> None:
    """§4.30, §4.33: it stands first in that token, and in no other; what is wrong with an address is said."""
    with real_nodes(tmp_path, "gil", "hana") as (gil, hana):
        gil.client.create_group("names")
        port = int(port_of(gil).rpartition("/")[2])
        code, error = gil.refusal("invite", "--addr", "0.0.0.0:1")
        assert (code, error["code"]) == (2, "bad-address")
        made = gil.told("invite", "--addr", "localhost")
        assert made["entrances"][0]["addresses"][0]["address"] == f"/dns/localhost/tcp/{port + 1}"
        assert "this very machine" in made["warning"]
        assert gil.client.status()["announced"] == []
        assert "localhost" not in str(gil.told("invite")["entrances"])
        hana.told("join", made["token"])
        found(hana, {"gil"})
        (seen,) = [peer for peer in hana.client.peers()["peers"] if peer["name"] == "gil"]
        assert f"/dns/localhost/tcp/{port}" not in seen["addresses"]


def test_what_was_tried_in_vain_is_told(tmp_path: Path) -> None:
    """Nobody is there any more: each address with what came of it."""
    with real_nodes(tmp_path, "ida", "jan") as (ida, jan):
        ida.client.create_group("gone")
        token = ida.told("invite", "--addr", "localhost:9")["token"]
        here = ida.client.status()["entrance_addresses"][0]
        ida.end()
        code, error = jan.refusal("join", token)
        assert code == 1
        assert "No member of gone answered" in error["what"]
        assert "/dns/localhost/tcp/10" in error["what"]
        assert here in error["what"]
        assert "nobody listens at that port" in error["what"]
        assert "Errno" not in error["what"]
        assert "fednode token show" in error["remedy"]
