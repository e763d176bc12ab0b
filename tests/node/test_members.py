"""Who is put out of a group is cut off, and the group's key is made anew (docs/protocol.md §3.31, §5.9 to §5.13).

Real nodes in a simulated network, in virtual time.
"""

from pathlib import Path
from random import Random

import pytest
import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.api.service.service import NotFound
from node.membership.group_keys import HandedKey
from node.membership.operation_words import Names
from protocol.errors import Refused, RemoteProtocolError
from protocol.group.key import SEALED_KEY_BYTES, GroupKey, seal_gossip, seal_to
from protocol.group.operation_kinds import KeyRotate
from protocol.keys import Hash, node_public_key
from protocol.limits import EPOCH_STEP
from protocol.wire import pack, pack_plain

ROTATED_S = 120.0  # of virtual time: far more than all admins' waits


def keys_of(*lives: Life) -> list[set[int]]:
    return [set(life.place.keys) for life in lives]


def node_id(life: Life):
    return life.node.identity.node_id


async def remove(by: Life, whom: Life, reason: str = "") -> None:
    await by.node.service.memberships.remove("hostile", whom.node.identity.member_id, reason)


def test_a_removed_member_is_cut_off_and_the_key_is_made_anew(tmp_path: Path) -> None:
    """§3.31, §5.11: at once where the removing node is there; it is told why, and reads nothing any more."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        await remove(first, third, "over")
        others = (first, second)
        await ground.settled(lambda: all(len(keys) == 2 for keys in keys_of(*others)), "the new key", 10)
        assert keys_of(third) == [{0}]
        assert first.place.key == second.place.key
        assert first.place.key.epoch > 0
        for life in others:
            assert node_id(third) not in life.node.groups.connected
            assert not life.node.groups.admits(node_id(third))
        (group,) = await third.node.service.groups()
        assert group["out"]["reason"] == "over"
        assert "was removed from hostile by node-0" in group["out"]["text"]
        assert (await third.node.service.status())["groups"][0]["out"] == group["out"]
        await trio.sleep(300)  # virtual time passes
        alive(first, second, third)
        assert not third.node.groups.connected
        assert await third.node.service.run_list.page({}) is not None
        with pytest.raises(Refused, match="was removed"):
            await third.node.service.memberships.leave("hostile")

    on_hostile_ground(tmp_path, main)


def test_whoever_leaves_is_out_and_an_admin_makes_a_new_key(tmp_path: Path) -> None:
    """§5.11: the one who leaves cannot; it comes back by the same invitation, and is given the key."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        await third.node.service.memberships.leave("hostile")
        await ground.settled(lambda: all(len(keys) == 2 for keys in keys_of(first, second)), "a new key", ROTATED_S)
        (group,) = await third.node.service.groups()
        assert group["out"]["removed"] is False
        assert [each["name"] for each in (await first.node.service.group("hostile"))["former"]] == ["node-2"]
        invitation = await first.node.service.invite(None, "member", 1, 86_400)
        await third.node.service.join(invitation["token"])
        assert third.place.key == first.place.key
        await ground.settled(lambda: node_id(third) in second.node.groups.connected, "third is back", 300)
        assert (await third.node.service.groups())[0]["out"] is None
        assert (await first.node.service.group("hostile"))["former"] == []

    on_hostile_ground(tmp_path, main)


def test_gossip_under_a_key_that_somebody_has_who_is_out_is_not_read(tmp_path: Path) -> None:
    """§5.13: even where a member passes it on; under the new key it is read."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        old = first.place.key
        await remove(first, third)
        await ground.settled(lambda: all(len(keys) == 2 for keys in keys_of(first, second)), "the new key", 10)
        heard: list[str] = []
        second.node.groups._on_gossip = lambda place, peer, kind, body: _note(heard, body)  # type: ignore[method-assign]
        place = first.place
        for key, body in ((old, b"old"), (place.key, b"new")):
            plain, nonce = b"o" + body, Random(1).randbytes(12)
            await first.node.network.publish(
                place.topic, seal_gossip(key, place.group, place.topic, plain, nonce=nonce)
            )
            await trio.sleep(5)  # virtual time passes
        assert heard == ["new"]
        with pytest.raises(Refused, match="out of the group"):
            second.place.open(seal_gossip(old, place.group, place.topic, b"ox", nonce=bytes(12)))
        with pytest.raises(RemoteProtocolError):
            second.place.open(b"noise")

    on_hostile_ground(tmp_path, main)


async def _note(heard: list[str], body: bytes) -> None:
    heard.append(body.decode())


def test_another_admin_makes_the_key_when_the_first_is_gone(tmp_path: Path) -> None:
    """§5.11: the one that removed the member dies before it has made one."""

    async def main(ground: HostileGround) -> None:
        first, second, third, fourth = await ground.group(4)
        await first.node.service.memberships.change_role("hostile", second.node.identity.member_id, "admin")
        await trio.sleep(5)  # virtual time passes
        first.node.groups.keys._rotate = lambda place: trio.sleep_forever()  # type: ignore[method-assign, assignment]
        await remove(first, fourth)
        await ground.settled(lambda: len(keys_of(third)[0]) == 2, "the second admin's key", ROTATED_S)
        assert third.place.key == second.place.key
        by = third.place.state().rotations[third.place.key.epoch].by
        assert by == node_id(second)

    on_hostile_ground(tmp_path, main)


def test_who_was_admitted_beside_a_rotation_is_handed_the_key(tmp_path: Path) -> None:
    """§5.12: the node that let it in had not heard of the new key; a wrong key is not taken for it."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        invitation = await first.node.service.invite(None, "member", 1, 86_400)
        late = await ground.born()
        ground.world.partition([[node_id(first), node_id(third)], [node_id(second), node_id(late)]])
        await remove(first, third)
        await late.node.service.join(invitation["token"])
        await ground.settled(lambda: len(keys_of(first)[0]) == 2, "the new key", 10)
        assert keys_of(second, late) == [{0}, {0}]
        ground.world.heal()
        await ground.settled(lambda: keys_of(late) == keys_of(first), "the key is handed on", 600)
        epoch = first.place.key.epoch
        rotation = first.place.state().rotations[epoch]
        assert node_id(late) not in rotation.recipients
        assert late.place.key == first.place.key == second.place.key

        del late.place.keys[epoch]
        entry = first.place.state().nodes[node_id(late)]
        wrong = seal_to(
            entry.seal_key, GroupKey(epoch, bytes(32)), first.place.group, ephemeral_secret=Random(2).randbytes(32)
        )
        message = HandedKey(group=first.place.group, epoch=epoch, sealed=wrong)
        await late.node.groups.keys.on_message(node_id(first), pack(message))
        assert keys_of(late) == [{0}]
        with pytest.raises(RemoteProtocolError):
            await late.node.groups.keys.on_message(node_id(first), b"noise")

    on_hostile_ground(tmp_path, main)


def test_keys_are_there_after_a_restart(tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        await remove(first, third)
        await ground.settled(lambda: all(len(keys) == 2 for keys in keys_of(first, second)), "the new key", 10)
        key = first.place.key
        await second.disk.write(f"group-{second.place.group}.keys", pack_plain({}))  # lost: the log has what was sealed
        for life in (first, second):
            await ground.restart(life)
        assert first.place.key == key
        assert second.place.key == key

    on_hostile_ground(tmp_path, main)


def test_a_run_goes_on_without_the_removed_and_a_restarted_node_takes_it_up(tmp_path: Path) -> None:
    """§3.33, §8.13: also where the removed had proposed it; the roster's first names do not keep it from going on."""

    async def main(ground: HostileGround) -> None:
        first, second, third, fourth = await ground.group(4)
        run = await ground.propose(third, nodes=4, rounds=60)
        await ground.settled(lambda: _round(second, run) >= 2, "two rounds")
        await remove(first, third)
        at = _round(second, run)
        await ground.settled(lambda: _round(second, run) >= at + 2, "rounds without the removed", 300)
        await ground.restart(second)
        known = await ground.ended(run, [first, second, fourth])
        for each in known:
            newest = each.ledger.committed.checkpoint
            assert node_id(third) not in newest.roster
            assert newest.outcome == "finished"
        assert third.node.runs.known[run].decision.decision == "declined"

    on_hostile_ground(tmp_path, main)


def test_what_comes_in_while_the_node_ends_is_taken_up_at_its_next_start(tmp_path: Path) -> None:
    """Nothing is begun in what has ended: no traceback for it, and nothing lost."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        second.scope.cancel()
        await second.ended.wait()
        run = await ground.propose(first, nodes=2, rounds=1)
        (proposal,) = [operation for operation in first.place.log if operation.hash == run]
        second.place.log.add(proposal.raw)
        node = second.node
        await node._on_operations(second.place, [proposal])
        node.links.keep({node_id(first)})
        node.links.send(node_id(first), "sync", b"late")
        await ground.restart(second)
        await ground.settled(lambda: run in second.node.runs.known, "the proposal is known", 300)
        alive(first, second)

    on_hostile_ground(tmp_path, main)


def test_a_key_that_is_kept_from_everybody_keeps_nobody_from_making_another(tmp_path: Path) -> None:
    """§5.11: an admin says that it has made a key, and seals noise."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        await first.node.service.memberships.change_role("hostile", "node-1", "admin")
        await trio.sleep(5)  # virtual time passes
        first.node.groups.keys._rotate = lambda place: trio.sleep_forever()  # type: ignore[method-assign, assignment]
        second_rotates, second.node.groups.keys._rotate = second.node.groups.keys._rotate, _no_key  # type: ignore[method-assign]
        await remove(first, third)
        noise = node_public_key(node_id(first)) + bytes(SEALED_KEY_BYTES)
        await first.node.groups.say(first.place, KeyRotate(epoch=EPOCH_STEP, commitment=Hash("0" * 64), sealed=noise))
        second.node.groups.keys._rotate = second_rotates  # type: ignore[method-assign]
        await ground.settled(lambda: len(keys_of(first)[0]) == 2, "a key that all have", ROTATED_S)
        assert first.place.key == second.place.key
        assert first.place.state().rotations[first.place.key.epoch].by == node_id(second)

    on_hostile_ground(tmp_path, main)


async def _no_key(place: object) -> None:
    await trio.lowlevel.checkpoint()


def _round(life: Life, run) -> int:
    known = life.node.runs.known.get(run)
    return known.ledger.committed_round if known is not None and known.ledger is not None else -1


def test_the_history_is_told_in_words(tmp_path: Path) -> None:
    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        members = first.node.service.memberships
        await members.change_role("hostile", "node-1", "observer")
        invitation = await first.node.service.invite(None, "member", 1, 86_400)
        await members.revoke("hostile", invitation["invite_id"][:10])
        await remove(first, third, "over")
        told = await members.history("hostile", None, 100)
        texts = [(each["by_member"], each["text"]) for each in told["operations"]]
        assert ("node-0", "removed node-2: over") in texts
        assert ("node-0", "made node-1 an observer") in texts
        assert texts[-1] == ("node-0", "founded the group hostile")
        assert any(
            text.startswith(f"revoked the invitation {invitation['invite_id'][:8]} of node-0") for _, text in texts
        )
        assert any("admitted node-2 with node node-2, by the invitation" in text for _, text in texts)
        assert not any("epoch" in text or "witness" in text for _, text in texts)
        assert ("node-0", "made a new key for the group's messages") in texts
        assert told["total"] == len(texts)
        assert told["previous"] is None
        page = await members.history("hostile", told["operations"][2]["hash"], 2)
        assert page["operations"] == told["operations"][3:5]
        assert page["previous"] == page["operations"][-1]["hash"]
        with pytest.raises(NotFound):
            await members.history("hostile", "0" * 64, 2)
        with pytest.raises(NotFound, match="it has: node-0, node-1"):
            await members.remove("hostile", "nobody", "")
        with pytest.raises(Refused, match="already"):
            await members.change_role("hostile", "node-1", "observer")
        with pytest.raises(Refused, match="only admins"):
            await second.node.service.memberships.remove("hostile", "node-0", "")

    on_hostile_ground(tmp_path, main)


def test_two_of_one_name_are_told_apart_by_their_ids() -> None:
    """A name is anybody's to choose, in whatever letters, and so is a node's; what they sign is not mixed up."""
    ids = {"M" + "1" * 20: "Anna", "M" + "2" * 20: "anna", "M" + "3" * 20: "Bo"}
    first, second, bo = ids
    names = Names({"n1": "anna", "n2": "anna"}, ids, {"n1": first, "n2": second})
    assert [names.of("n1"), names.of("n2")] == ["Anna (M11111111111)", "anna (M22222222222)"]
    assert names.member(bo) == "Bo"
