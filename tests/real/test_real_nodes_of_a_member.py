"""A member's further nodes in real processes: linked with a token, trained with, shut out (docs/protocol.md §10)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes import QUICK, STOP_S, RealNode, real_nodes, start_all, wait_until

RUN = f"""
name = "together"
seed = 7
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = 3
[roster]
nodes_min = 3
{QUICK}
"""


class LinkedNode(RealNode):
    """One that is always started with a device token, as a machine does whose service was set up so."""

    token = ""

    def _command(self, *arguments: str) -> list[str]:
        linked = ("--link", self.token) if arguments[0] == "start" and self.token else ()
        return super()._command(*arguments, *linked)


@contextmanager
def three(base: Path) -> Iterator[tuple[RealNode, RealNode, LinkedNode]]:
    """Alpha and beta, each a member with a node, in the group `study`; and a laptop that is not started."""
    laptop = LinkedNode(base, "laptop")
    try:
        with real_nodes(base, "alpha", "beta") as (alpha, beta):
            alpha.client.create_group("study")
            beta.client.join(alpha.client.invite()["token"])
            yield alpha, beta, laptop
            if laptop.is_running:
                assert laptop.client.status()["stranger_bytes"] == 0
                assert laptop.end() < STOP_S
                assert not laptop.broken_lines(), laptop.broken_lines()
    finally:
        if laptop.is_running:
            laptop.kill()


def groups_of(node: RealNode) -> set[str]:
    return {group["name"] for group in node.client.groups()["groups"] if group["out"] is None}


def own(node: RealNode, name: str) -> dict[str, object]:
    """What a node says of one of its member's nodes."""
    return next((each for each in node.client.nodes()["nodes"] if each["name"] == name), {})


def test_a_machine_is_linked_trains_and_is_shut_out(tmp_path: Path) -> None:
    """§10.5, §10.9, §10.12, §10.13"""
    from node.data.shares import digits_split

    with three(tmp_path) as (alpha, beta, laptop):
        alpha.client.create_group("second")
        made = alpha.told("link", "--expires", "10m")
        laptop.token = made["token"]
        laptop.start()
        wait_until(lambda: groups_of(laptop) == {"study", "second"}, "the laptop enters alpha's groups")
        alpha.told("group", "create", "third")
        wait_until(lambda: groups_of(laptop) == {"study", "second", "third"}, "a later group reaches it")
        wait_until(lambda: "laptop" in beta.connected_to(), "beta, who is another member, meets it")
        assert not (laptop.home / "member.key").exists()
        assert laptop.client.status()["member_id"] == alpha.client.status()["member_id"]
        check_the_token_is_used(tmp_path, alpha, laptop.token)
        check_it_has_no_say_over_nodes(laptop)

        alpha.told("profile", "--organisation", "St. Anna", "--contact", "ann@anna.example")
        wait_until(lambda: profile_seen_by(beta) == ("St. Anna", "ann@anna.example"), "beta reads the profile")
        wait_until(lambda: laptop.told("profile")["organisation"] == "St. Anna", "so does her own laptop")

        for node, path in zip((alpha, beta, laptop), digits_split(3, seed=7).write(tmp_path / "digits"), strict=True):
            node.client.add_data("digits", path)
        beta.client.set_policy(["all"])  # the laptop's own takes what its member's nodes propose
        run = alpha.client.start_run(RUN, group="study")["run_id"]
        for node in (alpha, beta, laptop):
            assert node.wait_for_end(run)["state"] == "FINISHED"
        assert alpha.client.rounds(run)["rounds"][-1]["updates_used"] == 3

        check_a_restart_keeps_all(alpha, laptop)
        check_it_is_shut_out(alpha, beta, laptop)


def profile_seen_by(node: RealNode) -> tuple[str, str]:
    members = node.client.group("study")["members"]
    return next((each["organisation"], each["contact"]) for each in members if each["role"] == "admin")


def check_the_token_is_used(base: Path, alpha: RealNode, token: str) -> None:
    other = LinkedNode(base, "other")
    other.token = token
    code, error = other.refusal("start", "--listen", "127.0.0.1")
    assert (code, error["code"]) == (4, "used")
    other.token = ""
    invitation = alpha.client.invite("study")["token"]
    code, error = other.refusal("start", "--link", invitation, "--listen", "127.0.0.1")
    assert (code, error["code"]) == (4, "not-a-token")
    assert not (other.home / "member.key").exists()  # it was to be somebody's
    other.start()  # without a token it is a member of its own
    try:
        code, error = other.refusal("join", token, "--yes")
        assert (code, error["code"]) == (4, "used")
        other.told("join", alpha.told("link")["token"], "--yes")  # a running node in no group does it, too
        wait_until(lambda: groups_of(other) == {"study", "second", "third"}, "the other node enters the groups")
        assert not (other.home / "member.key").exists()
        (moved,) = other.home.glob("member.key.*")
        assert moved.stat().st_mode & 0o777 == 0o600
        alpha.told("nodes", "revoke", "other", "--yes")
    finally:
        other.end()


def check_it_has_no_say_over_nodes(laptop: RealNode) -> None:
    for command in (["link"], ["nodes", "revoke", "alpha", "--yes"]):
        code, error = laptop.refusal(*command)
        assert (code, error["code"]) == (4, "no-member-key")
        assert "alpha" in error["remedy"]


def check_a_restart_keeps_all(alpha: RealNode, laptop: RealNode) -> None:
    for node in (laptop, alpha):
        node.end()
    start_all([laptop, alpha])  # the laptop with its token, which is used
    wait_until(lambda: "laptop" in alpha.connected_to(), "the two meet again")
    assert groups_of(laptop) == {"study", "second", "third"}
    listed = {each["name"]: each for each in alpha.told("nodes")["nodes"]}
    assert listed["laptop"]["groups"] == ["study", "second", "third"]
    assert own(laptop, "alpha")["holds_member_key"] is True


def check_it_is_shut_out(alpha: RealNode, beta: RealNode, laptop: RealNode) -> None:
    kept = [laptop.home / "siblings", *(laptop.home / "journals").glob("group-*")]
    before = {path: path.read_bytes() for path in kept}
    done = alpha.told("nodes", "revoke", "laptop", "--yes")
    assert done["groups"] == ["study", "second", "third"]
    wait_until(lambda: own(laptop, "laptop")["revoked_at"], "the laptop is told")
    for group in laptop.client.groups()["groups"]:
        assert "revoked" in group["out"]["text"], group
    wait_until(lambda: not laptop.connected_to(), "it is cut off")
    wait_until(lambda: "laptop" not in beta.connected_to(), "by beta, too")
    assert [each["name"] for each in beta.client.group("study")["revoked"]] == ["other", "laptop"]
    laptop.end()
    code, error = laptop.refusal("start")  # with its token: no token makes it well
    assert (code, error["code"]) == (4, "revoked")
    laptop.token = ""
    laptop.start()
    assert own(laptop, "laptop")["revoked_at"]
    assert "revoked by its member" in laptop.client.status()["trouble"]
    assert groups_of(laptop) == set()
    # A thief goes back to what it held before.
    laptop.end()
    for path, content in before.items():
        path.write_bytes(content)
    refused = alpha.client.status()["refused_at_door"]
    laptop.start()
    assert groups_of(laptop) == {"study", "second", "third"}  # as it thinks
    wait_until(lambda: alpha.client.status()["refused_at_door"] > refused, "it knocks in vain")
    wait_until(lambda: own(laptop, "laptop")["revoked_at"], "an entrance tells it why")
    assert not laptop.connected_to()
    assert alpha.client.status()["stranger_bytes"] == 0
    shown = subprocess.run(laptop._command("nodes"), capture_output=True, text=True, check=True).stdout
    assert "revoked" in shown
