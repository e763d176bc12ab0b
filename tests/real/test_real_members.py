"""An admin removes a member while a run goes on, in real processes (docs/protocol.md §3.31, §5.11 to §5.13)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from nodes import QUICK, RealNode, Study, real_nodes, wait_until

ROUNDS = 12
REASON = "left the study"


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Four nodes of a group; alpha's member is its admin."""
    base = tmp_path_factory.mktemp("members")
    with real_nodes(base, "alpha", "beta", "gamma", "delta") as nodes:
        study = Study(nodes, base)
        study.form()
        yield study


def epochs(node: RealNode) -> set[int]:
    """The epochs of the keys that a node has, by its own files."""
    (file,) = node.home.glob("group-*.keys")
    return {int(epoch) for epoch in msgpack.unpackb(file.read_bytes())}


def journal(node: RealNode) -> Path:
    (file,) = (node.home / "journals").glob("group-*")
    return file


def test_a_member_is_removed_while_a_run_goes_on(four: Study, tmp_path: Path) -> None:
    alpha, beta, gamma, delta = four.nodes
    others = (alpha, beta, gamma)
    code, error = beta.refusal("group", "remove", "delta", "--yes")
    assert (code, error["code"]) == (4, "not-an-admin")
    code, error = alpha.refusal("group", "leave", "--yes")
    assert (code, error["code"]) == (4, "last-admin")
    run = four.propose(beta, ROUNDS, pause_s=0.3, timing=QUICK)
    alpha.wait_for_round(run, 2)
    before = shutil.copy(journal(delta), tmp_path / "before")

    removed = alpha.told("group", "remove", "delta", "--reason", REASON, "--yes")
    assert removed["kind"] == "member.remove"

    # It hears why, and its part in the run ends; its record stays.
    wait_until(lambda: delta.client.groups()["groups"][0]["out"], "delta hears that it is out")
    out = delta.client.status()["groups"][0]["out"]
    assert (out["removed"], out["reason"]) == (True, REASON)
    assert alpha.client.status()["member_id"][:8] in out["by"]  # the members of one user's nodes are called the same
    assert delta.client.run(run)["round"] >= 1
    for node in others:
        wait_until(lambda node=node: "delta" not in node.connected_to(), f"{node.name} cuts delta off")
        wait_until(lambda node=node: len(epochs(node)) == 2, f"{node.name} has the new key")
    assert epochs(delta) == {0}

    # The run goes on without it, to its end.
    for node in others:
        seen = node.wait_for_end(run)
        assert (seen["state"], seen["round"]) == ("FINISHED", ROUNDS)
        assert node.client.rounds(run)["rounds"][-1]["updates_used"] == 3
    assert delta.client.run(run)["decision"] == "declined"

    # A proposal is under the new key: those who are in hear it by gossip, within a few seconds.
    later = beta.client.start_run('name = "later"\nseed = 7\n[task]\nname = "digits"\n[data]\nname = "digits"\n'
                                  "[training]\nrounds = 2\n[roster]\nnodes_min = 3\n")["run_id"]  # fmt: skip
    for node in others:
        assert node.wait_for_end(later)["state"] == "FINISHED"
    assert later not in {seen["run_id"] for seen in delta.client.runs()["runs"]}

    ghost = check_nothing_of_the_removed_is_read(four, Path(before))
    check_only_a_new_invitation_lets_it_back(four, ghost)


def check_nothing_of_the_removed_is_read(four: Study, before: Path) -> str:
    """Delta goes back to what its log said before, so that it takes itself for a member, and speaks in the group. The
    run that it proposes, and starts alone."""
    alpha, beta, _, delta = four.nodes
    refused = alpha.client.status()["refused_at_door"]
    length = alpha.client.group("study")["operations"]
    delta.end()
    shutil.copy(before, journal(delta))
    delta.start()
    assert delta.client.groups()["groups"][0]["out"] is None
    backdated = delta.client.start_run('name = "ghost"\nseed = 7\n[task]\nname = "digits"\n[data]\nname = "digits"\n'
                                       "[training]\nrounds = 2\n[roster]\nnodes_min = 1\n")["run_id"]  # fmt: skip
    wait_until(lambda: alpha.client.status()["refused_at_door"] > refused, "delta knocks at alpha's door")
    told = wait_until(lambda: delta.client.groups()["groups"][0]["turned_away"], "an entrance tells delta why")
    assert "was removed from study by alpha" in told  # by the name of the node
    assert REASON in told
    for node in (alpha, beta):
        assert "delta" not in node.connected_to()
        assert node.client.group("study")["operations"] == length
        assert backdated not in {seen["run_id"] for seen in node.client.runs()["runs"]}
        assert node.client.status()["stranger_bytes"] == 0
    delta.wait_for_end(backdated)
    return str(backdated)


def check_only_a_new_invitation_lets_it_back(four: Study, ghost: str) -> None:
    alpha, beta, gamma, delta = four.nodes
    history = alpha.told("group", "log", "study", "--limit", "1000")["operations"]
    kinds = [each["kind"] for each in history if each["counts"]]
    assert {"group.create", "member.admit", "member.remove", "key.rotate", "run.propose"} <= set(kinds)
    removal = next(each for each in history if each["kind"] == "member.remove")
    alpha_id, delta_id = (node.client.status()["member_id"][:8] for node in (alpha, delta))
    assert delta_id in removal["text"]
    assert removal["text"].endswith(REASON)
    assert alpha_id in removal["by_member"]
    assert json.dumps(history) == json.dumps(beta.told("group", "log", "study", "--limit", "1000")["operations"])
    invitation = alpha.told("invite")
    listed = alpha.told("group", "invitations")
    assert [each["state"] for each in listed][-1] == "open"
    alpha.told("group", "revoke-invitation", invitation["invite_id"][:12])
    assert alpha.told("group", "invitations")[-1]["state"] == "revoked"
    token = alpha.client.invite()["token"]
    delta.client.join(token)
    wait_until(lambda: "delta" in alpha.connected_to(), "delta is back")
    wait_until(lambda: epochs(delta) >= {max(epochs(alpha))}, "delta has the key that counts")
    assert delta.client.groups()["groups"][0]["out"] is None
    # What it proposed meanwhile is in the log like anybody's now; that it started it alone counts for nothing.
    for node in (alpha, beta, gamma):
        node.wait_for_run(ghost, lambda seen: seen["decision"] == "accepted", "the proposal")
    assert alpha.client.run(ghost)["started_at"] is None
    started = [each for each in alpha.client.group_history("study")["operations"] if each["kind"] == "run.start"]
    (void,) = [each for each in started if each["by_name"] == "delta"]
    assert not void["counts"], void
