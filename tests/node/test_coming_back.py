"""Somebody leaves or is removed, and is back: whoever came in meanwhile, or comes after, goes on (docs/protocol.md
§5.10, §5.12). Who is out hears of it, also where that happened while it was off, and who is alone may go.

Real nodes in a simulated network, in virtual time.
"""

from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.membership.knocks import KNOCK_FIRST_S, KNOCK_LAST_S, Knocks
from protocol.errors import FednodeError, Refused
from protocol.group.key import seal_key_of
from protocol.group.operation_kinds import NodeBind, NodeRevoke
from protocol.group.operations import sign_operation
from protocol.identity import make_certificate, make_revocation
from protocol.keys import GroupId, NodeId


def node_id(life: Life) -> NodeId:
    return life.node.identity.node_id


async def let_in(host: Life, joiner: Life) -> None:
    await joiner.node.service.join((await host.node.service.invite(None, "member", 1, 86_400))["token"])


async def put_out(ground: HostileGround, first: Life, goer: Life, *, removed: bool) -> None:
    if removed:
        await first.node.service.memberships.remove("hostile", goer.node.identity.member_id, "for a while")
    else:
        await goer.node.service.memberships.leave("hostile")
    await ground.settled(lambda: first.place.key.epoch > 0 and goer.place.out(), "it is out, with a new key")


@pytest.mark.parametrize("removed", [False, True], ids=["left", "removed"])
def test_who_comes_back_stops_nobody_who_came_meanwhile_or_after(tmp_path: Path, removed: bool) -> None:
    """§5.10: all four gossip under one key, also after each of them was started again."""

    async def main(ground: HostileGround) -> None:
        first, goer = await ground.group(2)
        await put_out(ground, first, goer, removed=removed)
        meanwhile = await ground.born()
        await let_in(first, meanwhile)
        await let_in(first, goer)
        after = await ground.born()
        await let_in(first, after)
        everybody = (first, goer, meanwhile, after)
        for life in everybody:
            await life.node.profile.set(name=None, organisation=f"of node {life.number}", contact=None)
        await ground.settled(
            lambda: all(member.organisation for life in everybody for member in life.place.state().members.values()),
            "all have heard of each other",
        )
        assert {life.place.key.epoch for life in everybody} == {first.place.key.epoch}
        alive(*everybody)
        for life in everybody:
            await ground.restart(life)
            assert life.place.key == first.place.key
            assert set(life.place.state().nodes) == {node_id(each) for each in everybody}

    on_hostile_ground(tmp_path, main)


def test_what_is_wrong_with_the_keys_of_one_group_keeps_no_node_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk refuses to keep a key, or the log says that a key is good that nobody ever had."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        await second.node.service.create_group("another")
        before = first.place.state().__class__.good_epochs
        monkeypatch.setattr(first.place.state().__class__, "good_epochs", lambda state: (77, *before(state)))
        await ground.restart(second)
        alive(first, second)

        async def refuse(place: object) -> None:
            raise FednodeError("The disk refused", remedy="make room")

        monkeypatch.setattr("node.membership.group_keys.GroupKeys.look", lambda self, place: refuse(place))
        await ground.restart(second)
        assert [place.state().name for place in second.node.groups.places.values()] == ["hostile", "another"]
        alive(second)

    on_hostile_ground(tmp_path, main)


def test_who_was_removed_while_it_was_off_is_told_and_knocks_ever_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """§4.12: in the status, the group, the inbox and by the doctor; by one line in either node's log. By a new
    invitation it is in again, and all that is over."""

    async def main(ground: HostileGround) -> None:
        first, goer = await ground.group(2)
        goer.scope.cancel()
        await goer.ended.wait()
        await first.node.service.memberships.remove("hostile", goer.node.identity.member_id, "it was stolen")
        await ground.restart(goer)
        service = goer.node.service
        await ground.settled(lambda: goer.place.turned_away, "it is told", within_s=40)
        (group,), (entry,) = (await service.status())["groups"], await service.groups()
        assert group["turned_away"] == entry["turned_away"]
        assert entry["turned_away"].startswith("node-0 does not let this node in any more: node-1 was removed from")
        assert "it was stolen" in entry["turned_away"]
        (item,) = [each for each in await service.inbox.items() if each["kind"] == "trouble"]
        assert "out of hostile" in item["title"]
        (check,) = [each for each in (await service.doctor.look())["checks"] if each["name"] == "group"]
        assert (check["state"], check["text"]) == ("warning", entry["turned_away"])
        assert "new invitation" in check["remedy"]
        (reach,) = [each for each in (await service.doctor.look())["checks"] if each["name"] == "reach"]
        assert "does not let this node in any more" in reach["text"]
        refused = first.node.network.counters.refused_at_door
        await trio.sleep(3600)  # virtual time passes
        assert first.node.network.counters.refused_at_door - refused <= 2
        lines = [record.getMessage() for record in caplog.records if "was removed from" in record.getMessage()]
        assert len([line for line in lines if "any more" in line]) == 1
        assert len([line for line in lines if line.startswith("turned ")]) == 1
        await let_in(first, goer)
        await ground.settled(lambda: first.node.groups.connected and goer.node.groups.connected, "it is back")
        assert not goer.place.turned_away
        assert not [each for each in await service.inbox.items() if each["kind"] == "trouble"]
        alive(first, goer)

    caplog.set_level("INFO", "fednode")
    on_hostile_ground(tmp_path, main)


def test_knocks_come_ever_less_often() -> None:
    """Of each group and peer by itself; whoever is let in begins anew."""
    now = [0.0]
    knocks, group, here, there = Knocks(lambda: now[0]), GroupId("g"), NodeId("here"), NodeId("there")
    pauses = []
    for _ in range(12):
        assert knocks.may(group, here)
        knocks.turned_away(group, here)
        began = now[0]
        while not knocks.may(group, here):
            now[0] += 1.0
        pauses.append(now[0] - began)
    assert pauses[:3] == [KNOCK_FIRST_S, 2 * KNOCK_FIRST_S, 4 * KNOCK_FIRST_S]
    assert pauses[-1] == KNOCK_LAST_S
    assert pauses == sorted(pauses)
    knocks.turned_away(group, here)
    assert not knocks.may(group, here)
    assert knocks.may(group, there)
    assert knocks.may(GroupId("h"), here)
    knocks.welcomed(group)
    assert knocks.may(group, here)


def test_who_is_alone_leaves_and_does_nothing_there_any_more(tmp_path: Path) -> None:
    """§3.30: the group is over; its node goes on, and says how it stands."""

    async def main(ground: HostileGround) -> None:
        (only,) = await ground.group(1)
        service = only.node.service
        await service.memberships.leave("hostile")
        for _ in range(2):
            (entry,) = await only.node.service.groups()
            assert (entry["out"]["how"], entry["members"], entry["role"]) == ("left", [], "")
            assert "ended with its last member" in entry["out"]["remedy"]
            with pytest.raises(Refused, match="left hostile on"):
                await only.node.service.invite(None, "member", 1, 86_400)
            assert not [each for each in await only.node.service.inbox.items() if each["kind"] == "trouble"]
            checks = (await only.node.service.doctor.look())["checks"]
            assert not [check for check in checks if check["name"] == "group"]
            await ground.restart(only)
        await only.node.service.create_group("another")
        assert (await only.node.service.invite(None, "member", 1, 86_400))["group"] == "another"
        alive(only)

    on_hostile_ground(tmp_path, main)


def test_a_revoked_node_says_so(tmp_path: Path) -> None:
    """To who looks at its group, asks the doctor, or wants to invite somebody."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        member_key = second.node.identity.keys.member
        assert member_key is not None
        revocation = make_revocation(member_key, node_id(second), issued_at=1)
        sibling = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
        certificate = make_certificate(
            member_key,
            sibling,
            member_name="node-1",
            node_name="other",
            seal_key=seal_key_of(bytes([8]) * 32),
            issued_at=1,
        )
        await first.node.groups.say(first.place, NodeBind(certificate=certificate))
        await ground.settled(lambda: len(first.place.log) == len(second.place.log), "the other node")
        raw = sign_operation(
            sibling,
            NodeRevoke(revocation=revocation),
            group=first.place.group,
            parents=tuple(sorted(second.place.log.heads())),
            previous="",
            claimed_at=1_800_000_000,
        )
        await second.node.groups._took_in(second.place, second.place.log.add(raw).added)
        (entry,) = await second.node.service.groups()
        assert entry["out"]["how"] == "revoked"
        assert "by its own member's node other" in entry["out"]["text"]
        told = [each for each in (await second.node.service.doctor.look())["checks"] if each["state"] != "ok"]
        assert any("revoked" in check["text"] for check in told)
        with pytest.raises(Refused, match="was revoked in hostile") as refused:
            await second.node.service.invite(None, "member", 1, 86_400)
        assert "fednode link" in refused.value.remedy

    on_hostile_ground(tmp_path, main)
