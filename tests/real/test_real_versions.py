"""Nodes of two versions of the protocol as processes: each refuses the other with a sentence, and nobody hangs
(docs/protocol.md §11.1, §11.2)."""

import sys
import time
from pathlib import Path

from nodes import RealNode, real_nodes, wait_until

OTHER_VERSION = Path(__file__).with_name("other_version.py")
REFUSED_WITHIN_S = 20.0


class VersionedNode(RealNode):
    """A node that can be started as one of another version of the protocol."""

    version = 1

    def _command(self, *arguments: str) -> list[str]:
        if self.version == 1:
            return super()._command(*arguments)
        return [sys.executable, str(OTHER_VERSION), str(self.version), *arguments, "--home", str(self.home)]

    def becomes(self, version: int) -> None:
        self.end()
        self.version = version
        self.start()

    def warnings(self, words: str) -> list[str]:
        lines = (self.home / "node.log").read_text().splitlines()
        return [line for line in lines if f" WARNING {words}" in line]


def sentence(other: RealNode, theirs: int, ours: int) -> str:
    return f"Node {other.node_id} speaks version {theirs} of fednode's protocol, and this node version {ours}"


def test_nodes_of_different_versions_tell_each_other_so(tmp_path: Path) -> None:
    with real_nodes(tmp_path, "ann", "ben", kind=VersionedNode) as nodes:
        ann, ben = nodes
        assert isinstance(ann, VersionedNode)
        assert isinstance(ben, VersionedNode)
        check_that_a_joiner_is_told(ann, ben)
        check_that_members_are_told(ann, ben)


def check_that_a_joiner_is_told(ann: VersionedNode, ben: VersionedNode) -> None:
    """Both ways, at once, and the node at whose entrance it was logs the same."""
    for node in (ann, ben):
        node.client.create_group(f"group of {node.name}")
    ben.becomes(2)
    for host, joiner, remedy in ((ann, ben, f"upgrade fednode on node {ann.node_id}"), (ben, ann, "on this node")):
        token = host.client.invite()["token"]
        began = time.monotonic()
        code, error = joiner.refusal("join", token)
        assert time.monotonic() - began < REFUSED_WITHIN_S
        assert (code, error["what"]) == (1, sentence(host, host.version, joiner.version))
        assert remedy in error["remedy"]
        assert len(joiner.warnings(sentence(host, host.version, joiner.version))) == 1
        wait_until(
            lambda host=host, joiner=joiner: host.warnings(sentence(joiner, joiner.version, host.version)),
            f"the log of {host.name} says so",
        )
    ben.becomes(1)


def check_that_members_are_told(ann: VersionedNode, ben: VersionedNode) -> None:
    """One of two members upgrades: both show it, each says it once, and it is over when the other has upgraded too."""
    group = ann.client.groups()["groups"][0]["group_id"]
    ben.client.join(ann.client.invite()["token"])
    wait_until(lambda: "ben" in ann.connected_to(), "ann meets ben")
    ben.becomes(2)
    for node, other in ((ann, ben), (ben, ann)):
        said = wait_until(
            lambda node=node: node.client.status()["peers_in_trouble"], f"{node.name} shows that something is wrong"
        )
        assert [each["node_id"] for each in said] == [other.node_id]
        assert said[0]["trouble"].startswith(sentence(other, other.version, node.version))
        assert "upgrade fednode on " in said[0]["trouble"]
        shown = node.cli("status")
        assert "speaks version" in shown.stdout
    assert len(ann.warnings(sentence(ben, 2, 1))) == 2  # once for the ben that joined in vain, once for this one
    ben.becomes(1)
    wait_until(lambda: not ann.client.status()["peers_in_trouble"], "ann and ben understand each other again")
    assert group in {each["group_id"] for each in ben.client.groups()["groups"]}
