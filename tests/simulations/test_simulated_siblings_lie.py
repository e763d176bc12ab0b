"""A stolen machine that is not revoked yet, on the simulated network: it cannot have its siblings flood each other, or
keep them from what they have to do. docs/protocol.md §10.11, §10.12."""

from pathlib import Path
from typing import Any

import trio
from own_machines import HOUR, Machines, group, groups_of, played, until

from node.membership.siblings import SIBLING_CHANNEL
from node.node import Node
from protocol.entrance.siblings import GROUPS_TOLD_MAX, GroupTold, ProfileTold, SiblingNews
from protocol.errors import Refused
from protocol.keys import GroupId
from protocol.wire import pack, unpack


async def three_machines(world: Machines) -> tuple[Node, Node, Node]:
    ann = await world.start("ann")
    stolen, phone = await world.link(ann, "stolen"), await world.link(ann, "phone")
    everybody = {node.identity.node_id for node in (ann, stolen, phone)}
    for node in (ann, stolen, phone):
        await until(lambda node=node: node.groups.connected >= everybody - {node.identity.node_id})
    await trio.sleep(60)  # virtual time passes: all is told
    return ann, stolen, phone


def news_of(node: Node, **changes: Any) -> bytes:
    news = unpack(SiblingNews, node.siblings._news(full=True, opens=False), 1_000_000)
    return pack(news.model_copy(update=changes))


def sent_by(node: Node) -> list[tuple[str, str]]:
    """To whom `node` sends on which channel, from now on."""
    sent, send = [], node.links.send

    def noted(peer: Any, channel: str, payload: bytes, kind: str = "") -> None:
        sent.append((peer, channel))
        send(peer, channel, payload, kind)

    node.links.send = noted
    return sent


def made_up(number: int) -> GroupTold:
    return GroupTold(group=GroupId(f"{number:064x}"), name="of no use", admission=f"{number:064x}")


def test_news_without_end_makes_no_flood_among_the_others(tmp_path: Path) -> None:
    """§10.11: or the one that it tells would be held for the one that floods, and be refused by its own siblings."""

    async def story(world: Machines) -> None:
        ann, stolen, phone = await three_machines(world)
        sent = sent_by(ann)
        now = int(ann.now())
        for number in range(400):
            profile = ProfileTold(name="ann", organisation=f"{number}", contact="", set_at=now + number)
            lie = news_of(stolen, holds_member_key=number % 2 == 0, profile=profile)
            stolen.links.send(ann.identity.node_id, SIBLING_CHANNEL, lie)
        await until(lambda: ann.profile.view()["organisation"] == "399")
        await until(lambda: phone.profile.view()["organisation"] == "399")  # the last is told in any case
        assert sent.count((phone.identity.node_id, SIBLING_CHANNEL)) < 40

    played(tmp_path, story)


def test_groups_that_there_are_not_keep_nobody_waiting(tmp_path: Path) -> None:
    """§10.12: as many as it likes, at an entrance that never answers."""

    async def story(world: Machines) -> None:
        ann, stolen, phone = await three_machines(world)
        at_it: list[GroupId] = []
        most, enter = 0, ann.groups.enter

        async def slow(told: GroupId, peer: Any) -> Any:
            nonlocal most
            if peer != stolen.identity.node_id:
                return await enter(told, peer)
            at_it.append(told)
            most = max(most, len(at_it))
            await trio.sleep(30)  # virtual time: an entrance that does not answer
            at_it.remove(told)
            raise Refused("no-such-group", "It makes them up", remedy="")

        ann.groups.enter = slow
        for times in range(10):
            groups = tuple(made_up(GROUPS_TOLD_MAX * times + number) for number in range(GROUPS_TOLD_MAX))
            stolen.links.send(ann.identity.node_id, SIBLING_CHANNEL, news_of(stolen, groups=groups))
        await until(lambda: at_it)
        begun = trio.current_time()
        await group(phone, "real")
        await until(lambda: "real" in groups_of(ann))
        assert trio.current_time() - begun < 10
        await trio.sleep(100)  # virtual time passes
        assert most == 1
        assert sum(map(len, ann.siblings.groups._to_enter.values())) <= GROUPS_TOLD_MAX

    played(tmp_path, story)


def test_who_tells_of_an_ended_group_on_and_on_hears_its_end_once(tmp_path: Path) -> None:
    """§10.12: each time costs the one that says it a walk through the group's log."""

    async def story(world: Machines) -> None:
        ann, stolen, _phone = await three_machines(world)
        bob = await world.start("bob")
        ended = await group(bob, "ended")
        await ann.service.join((await bob.service.invite("ended", "member", 1, HOUR))["token"])
        await until(lambda: "ended" in groups_of(stolen))
        told = next(each for each in stolen.siblings.groups.told() if each.group == ended)
        await ann.service.memberships.leave("ended")
        await until(lambda: "ended" not in groups_of(stolen))
        await trio.sleep(60)  # virtual time passes
        said: list[Any] = []
        tell_end = ann.siblings.tell_end
        ann.siblings.tell_end = lambda peer, place: (said.append(peer), tell_end(peer, place))
        for _ in range(20):
            lie = news_of(stolen, groups=(told,) * GROUPS_TOLD_MAX)
            stolen.links.send(ann.identity.node_id, SIBLING_CHANNEL, lie)
        await until(lambda: said)
        await trio.sleep(10)  # virtual time passes
        assert said == [stolen.identity.node_id]

    played(tmp_path, story)
