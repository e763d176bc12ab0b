"""The nodes of one member on the simulated network: linked, kept alike, revoked. docs/protocol.md §10.8 to §10.14."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from own_machines import HOUR, Machines, group, groups_of, played, until

from node.api.service.service import NotFound
from node.home.identity import Keys, load_identity
from node.membership.siblings import read_siblings
from node.node import Node
from protocol.entrance.siblings import GroupTold, Siblings
from protocol.errors import FednodeError, Refused
from protocol.group.key import seal_key_of
from protocol.group.operation_kinds import MemberProfile, NodeBind, NodeRevoke
from protocol.identity import make_certificate, make_revocation
from protocol.keys import GroupId, MemberId
from simulations.nodes.simulated_node import keys_of
from simulations.world.deterministic import run_deterministically
from simulations.world.disk import ChunkPool
from simulations.world.faulty_disk import FaultyDisk


def kinds(node: Node, group_id: GroupId) -> list[type]:
    return [type(operation.payload) for operation in node.groups.places[group_id].log]


# --- linking -------------------------------------------------------------------------------------------------------
def test_a_linked_node_is_in_all_groups_present_and_future(tmp_path: Path) -> None:
    """§10.9: they meet though they share no group; §10.12"""

    async def story(world: Machines) -> None:
        ann = await world.start("ann")
        laptop = await world.link(ann, "laptop")
        assert laptop.identity.member_id == ann.identity.member_id
        assert laptop.identity.keys.member is None
        assert laptop.policy.owner == ann.identity.member_id
        await until(lambda: laptop.identity.node_id in ann.groups.connected)
        for name in ("one", "two"):
            await group(ann, name)
        await until(lambda: groups_of(laptop) == {"one", "two"})
        third = await group(laptop, "three")  # and the other way round
        await until(lambda: "three" in groups_of(ann))
        assert kinds(ann, third).count(NodeBind) == 1
        listed = await laptop.service.memberships.own_nodes.listed()
        assert [each["holds_member_key"] for each in listed["nodes"]] == [False, True]
        with pytest.raises(Refused, match="member's key") as refused:
            await laptop.linker.make(HOUR)
        assert "ann" in refused.value.remedy

    played(tmp_path, story)


def test_a_device_token_that_was_taken_back_stays_so(tmp_path: Path) -> None:
    """§10.15, also over a restart of its maker."""

    async def story(world: Machines) -> None:
        ann, laptop = await world.start("ann"), await world.start("laptop")
        made = await ann.linker.make(HOUR)
        own = ann.service.memberships.own_nodes
        for nobodys in ("", "ffff", made.link_id[:2]):
            with pytest.raises(NotFound):
                await own.revoke_link(nobodys)
        assert (await own.revoke_link(made.link_id[:12]))["link_id"] == made.link_id
        world.stop("ann")
        ann = await world.start("ann")
        (listed,) = (await ann.service.memberships.own_nodes.listed())["links"]
        assert (listed["revoked"], listed["used_by"]) == (True, None)
        with pytest.raises(Refused, match="taken back") as refused:
            await laptop.service.join(made.token)
        assert refused.value.code == "revoked-link"
        again = await ann.linker.make(HOUR)
        await laptop.service.join(again.token)
        with pytest.raises(Refused, match="The machine laptop has used"):
            await ann.service.memberships.own_nodes.revoke_link(again.link_id)

    played(tmp_path, story)


def test_a_node_in_groups_is_not_made_another_members(tmp_path: Path) -> None:
    """§10.2"""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        await group(bob, "bob's")
        made = await ann.linker.make(HOUR)
        with pytest.raises(Refused) as refused:
            await bob.service.join(made.token)
        assert refused.value.code == "in-groups"
        assert bob.identity.member_id != ann.identity.member_id
        laptop = await world.start("laptop")
        await laptop.service.join(made.token)
        tower = await world.start("tower")
        with pytest.raises(Refused) as refused:
            await tower.service.join(made.token)
        assert refused.value.code == "used"
        await laptop.service.join(made.token)  # it is ours already: the same answer

    played(tmp_path, story)


def test_who_was_off_line_hears_of_new_groups_and_new_siblings(tmp_path: Path) -> None:
    """§10.10, §10.11: what the one who linked and created is not there to tell, another sibling tells."""

    async def story(world: Machines) -> None:
        ann = await world.start("ann")
        laptop = await world.link(ann, "laptop")
        await until(lambda: laptop.identity.node_id in ann.groups.connected)
        world.stop("laptop")
        tower = await world.link(ann, "tower")
        await group(ann, "one")
        await until(lambda: groups_of(tower) == {"one"})
        world.stop("ann")
        laptop = await world.start("laptop")
        assert not laptop.siblings.admits(tower.identity.node_id)  # never heard of it
        await until(lambda: groups_of(laptop) == {"one"})
        assert laptop.siblings.admits(tower.identity.node_id)
        ann = await world.start("ann")
        await until(lambda: len(ann.groups.connected) == 2)
        assert groups_of(ann) == {"one"}

    played(tmp_path, story)


def test_all_is_kept_over_a_restart(tmp_path: Path) -> None:
    """§10.3, §10.8"""

    async def story(world: Machines) -> None:
        ann = await world.start("ann")
        laptop = await world.link(ann, "laptop")
        made = await ann.linker.make(HOUR)
        await ann.profile.set(name="Ann", organisation="St. Anna", contact=None)
        await until(lambda: laptop.profile.name == "Ann")
        for name in ("ann", "laptop"):
            world.stop(name)
        ann, laptop = await world.start("ann"), await world.start("laptop")
        assert laptop.identity.member_id == ann.identity.member_id
        assert laptop.identity.keys.member is None
        assert (laptop.profile.view(), laptop.identity.name) == (ann.profile.view(), "laptop")
        await until(lambda: laptop.identity.node_id in ann.groups.connected)
        await world.start("tower")
        tower = await world.start("phone")
        await tower.service.join(made.token)
        assert tower.identity.member_id == ann.identity.member_id

    played(tmp_path, story)


# --- revoking ------------------------------------------------------------------------------------------------------
def test_a_revoked_node_is_out_everywhere(tmp_path: Path) -> None:
    """§10.9, §10.13"""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        laptop, tower = await world.link(ann, "laptop"), await world.link(ann, "tower")
        lost = laptop.identity.node_id
        one, two = await group(ann, "one"), await group(ann, "two")
        await bob.service.join((await ann.service.invite("one", "member", 1, HOUR))["token"])
        await until(lambda: groups_of(laptop) == groups_of(tower) == {"one", "two"})
        await until(lambda: lost in bob.groups.connected)
        with pytest.raises(Refused) as refused:
            await tower.linker.revoke(lost)
        assert refused.value.code == "no-member-key"
        with pytest.raises(Refused) as refused:
            await ann.linker.revoke(ann.identity.node_id)
        assert refused.value.code == "revoking-itself"
        done = await ann.service.memberships.own_nodes.revoke("laptop")
        assert sorted(done["groups"]) == ["one", "two"]
        await until(lambda: not laptop.groups.connected)
        assert laptop.siblings.trouble
        assert all(place.revoked() for place in laptop.groups.places.values())
        for node in (ann, bob, tower):
            await until(lambda node=node: lost in node.groups.places[one].state().revoked)
            assert not node.groups.admits(lost)
        await until(lambda: lost in tower.groups.places[two].state().revoked)
        # Each group was told once.
        assert [kinds(tower, each).count(NodeRevoke) for each in (one, two)] == [1, 1]
        third = await group(laptop, "three")
        await group(tower, "four")
        await until(lambda: "four" in groups_of(ann))
        await trio.sleep(300)  # virtual time passes
        assert third not in ann.groups.places
        assert not laptop.groups.connected
        assert groups_of(laptop) == {"three"}
        with pytest.raises(Refused, match="revoked already"):
            await ann.linker.revoke(lost)

    played(tmp_path, story)


def test_a_node_that_was_off_line_is_told_at_an_entrance(tmp_path: Path) -> None:
    """§10.10"""

    async def story(world: Machines) -> None:
        ann = await world.start("ann")
        laptop = await world.link(ann, "laptop")
        await until(lambda: laptop.identity.node_id in ann.groups.connected)
        world.stop("laptop")
        await ann.linker.revoke(laptop.identity.node_id)
        laptop = await world.start("laptop")
        assert not laptop.siblings.trouble
        await until(lambda: laptop.siblings.trouble)
        assert not laptop.groups.connected
        world.stop("laptop")
        laptop = await world.start("laptop")
        assert laptop.siblings.trouble  # for good

    played(tmp_path, story)


def test_a_revoked_node_that_others_let_in_is_put_out_again(tmp_path: Path) -> None:
    """§10.13: bob has not heard of the revocation, and the node was in none of his groups when it was lost."""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        laptop = await world.link(ann, "laptop")
        await until(lambda: laptop.identity.node_id in ann.groups.connected)
        world.stop("laptop")
        await group(bob, "bob's")
        await ann.service.join((await bob.service.invite(None, "member", 1, HOUR))["token"])
        assert await ann.linker.revoke(laptop.identity.node_id) == []
        world.stop("ann")
        laptop = await world.start("laptop")
        (place,) = bob.groups.places.values()
        laptop.groups.neighbours.addresses.told(bob.groups.announcer.where())
        await laptop.groups.enter(place.group, bob.identity.node_id)
        assert laptop.identity.node_id in place.state().nodes
        await world.start("ann")
        await until(lambda: laptop.identity.node_id in place.state().revoked)

    played(tmp_path, story)


def test_without_the_key_the_others_say_it_in_turn(tmp_path: Path) -> None:
    """§10.13: who revoked is gone before it could say so in a group. §10.9: its own door was shut at once."""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        laptop, tower = await world.link(ann, "laptop"), await world.link(ann, "tower")
        lost = laptop.identity.node_id
        await until(lambda: len(ann.groups.connected) == 2)
        await group(bob, "bob's")
        (place,) = bob.groups.places.values()
        await tower.service.join((await bob.service.invite(None, "member", 1, HOUR))["token"])
        await until(lambda: lost in place.state().nodes and ann.identity.node_id in place.state().nodes)
        ann.siblings.known.add_revocation(revocation_by(ann, lost))
        assert ann.groups.places[place.group].admits(lost)  # the group has not heard of it
        assert not ann.groups.admits(lost)
        ann.siblings.spread()
        await until(lambda: lost in tower.siblings.known.revocations)
        world.stop("ann")
        await until(lambda: lost in place.state().revoked)

    played(tmp_path, story)


def revocation_by(node: Node, lost: Any) -> bytes:
    assert node.identity.keys.member is not None
    return make_revocation(node.identity.keys.member, lost, issued_at=int(node.now()))


# --- leaving -------------------------------------------------------------------------------------------------------
def test_no_sibling_brings_back_a_member_that_has_left(tmp_path: Path) -> None:
    """§10.12"""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        laptop, _ = await world.link(ann, "laptop"), await world.link(ann, "tower")
        shared = await group(bob, "shared")
        await ann.service.join((await bob.service.invite(None, "member", 1, HOUR))["token"])
        await until(lambda: len(bob.groups.places[shared].state().nodes) == 4)
        world.stop("tower")  # which will not have heard that ann left, and will tell of the group
        await ann.service.memberships.leave("shared")
        await until(lambda: laptop.groups.places[shared].out() is not None)
        tower = await world.start("tower")
        admission = tower.siblings.groups.told()
        assert [told.group for told in admission] == [shared]
        assert not laptop.siblings.groups.should_enter(admission[0])
        assert laptop.siblings.groups.should_enter(GroupTold(group=shared, name="shared", admission="0" * 64))
        before = len(bob.groups.places[shared].log)
        await trio.sleep(300)  # virtual time passes
        assert groups_of(laptop) == groups_of(ann) == groups_of(tower) == set()
        assert NodeBind not in kinds(bob, shared)[before:]
        # A new invitation is another matter, and one of the nodes is enough.
        await laptop.service.join((await bob.service.invite(None, "member", 1, HOUR))["token"])
        await until(lambda: groups_of(laptop) == groups_of(ann) == groups_of(tower) == {"shared"})

    played(tmp_path, story)


# --- the profile ---------------------------------------------------------------------------------------------------
def test_the_profile_reaches_every_group_and_every_sibling(tmp_path: Path) -> None:
    """§10.14"""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        laptop = await world.link(ann, "laptop")
        one = await group(ann, "one")
        await bob.service.join((await ann.service.invite(None, "member", 1, HOUR))["token"])
        await until(lambda: groups_of(laptop) == {"one"})
        await laptop.service.memberships.own_nodes.set_profile(
            name=None, organisation="St. Anna", contact="ann@anna.example"
        )
        member = ann.identity.member_id
        seen = bob.groups.places[one]
        await until(lambda: seen.state().members[member].organisation == "St. Anna")
        assert seen.state().members[member].name == "ann"
        await until(lambda: ann.profile.view()["contact"] == "ann@anna.example")
        two = await group(ann, "two")
        await until(lambda: ann.groups.places[two].state().members[member].organisation == "St. Anna")
        await until(lambda: "two" in groups_of(laptop))
        await trio.sleep(300)  # virtual time passes
        assert [kinds(ann, each).count(MemberProfile) for each in (one, two)] == [1, 1]
        with pytest.raises(Refused):
            await ann.profile.set(name="", organisation=None, contact=None)
        with pytest.raises(Refused):
            await ann.profile.set(name=None, organisation="two\nlines", contact=None)

    played(tmp_path, story)


def test_of_two_profiles_the_later_counts(tmp_path: Path) -> None:
    """§10.14: set on two nodes that did not hear of each other; a group that only one of them is in is told, too."""

    async def story(world: Machines) -> None:
        ann = await world.start("ann")
        laptop = await world.link(ann, "laptop")
        await until(lambda: laptop.identity.node_id in ann.groups.connected)
        await ann.profile.set(name=None, organisation="old", contact=None)
        await until(lambda: laptop.profile.view()["organisation"] == "old")
        world.stop("ann")
        alone = await group(laptop, "alone")  # where the old one is said
        member = laptop.identity.member_id
        await until(lambda: laptop.groups.places[alone].state().members[member].organisation == "old")
        world.stop("laptop")
        ann = await world.start("ann")
        await trio.sleep(60)  # virtual time passes
        await ann.profile.set(name=None, organisation="new", contact=None)
        laptop = await world.start("laptop")
        await until(lambda: laptop.groups.places[alone].state().members[member].organisation == "new")
        await until(lambda: "alone" in groups_of(ann))
        await trio.sleep(300)  # virtual time passes
        assert ann.groups.places[alone].state().members[member].organisation == "new"
        assert ann.profile.view()["organisation"] == laptop.profile.view()["organisation"] == "new"
        # Nobody sets what the others could not set anew.
        far = ann.profile.told.model_copy(update={"organisation": "never", "set_at": int(ann.now()) + 2 * HOUR})
        await laptop.profile.heard(far)
        assert laptop.profile.view()["organisation"] == "new"

    played(tmp_path, story)


# --- what lies in the home -----------------------------------------------------------------------------------------
def test_a_home_without_what_linking_gave_says_what_to_do() -> None:
    """§10.1: it makes no member's key of its own. A lost revocation would open doors, so a damaged file is no file."""

    async def main() -> None:
        keys = keys_of(1, 1)
        disk = FaultyDisk(Random(1), ChunkPool())
        linked = Keys(keys.key, None, keys.seal_key.private_bytes_raw())
        for content in (None, b"garbage", certificate_of(keys_of(2, 1))):
            if content is not None:
                await disk.write("certificate", content)
            with pytest.raises(FednodeError, match="holds no member's key") as raised:
                await load_identity(linked, "laptop", "laptop", disk, lambda: 1.0)
            assert "fednode link" in raised.value.remedy
        await disk.write("certificate", certificate_of(keys))
        identity = await load_identity(linked, "another name", "", disk, lambda: 1.0)
        assert identity.name == "as certified"
        for content in (b"garbage", b"\x90", b"\x81\xa6member\xa1M"):
            await disk.write("siblings", content)
            siblings = Siblings(MemberId("M"))
            with pytest.raises(FednodeError, match="damaged"):
                await read_siblings(disk, siblings, set())

    run_deterministically(1, main)


def certificate_of(keys: Any) -> bytes:
    seal_key = seal_key_of(keys.seal_key.private_bytes_raw())
    names = {"member_name": "ann", "node_name": "as certified"}
    return make_certificate(keys.member_key, keys.key, **names, seal_key=seal_key, issued_at=1)


def test_nobody_else_is_listened_to_as_a_sibling(tmp_path: Path) -> None:
    """§10.11: a member of a group speaks as only our own nodes may."""

    async def story(world: Machines) -> None:
        ann, bob = await world.start("ann"), await world.start("bob")
        await group(ann, "one")
        await bob.service.join((await ann.service.invite("one", "member", 1, HOUR))["token"])
        await until(lambda: bob.identity.node_id in ann.groups.connected)
        private = await group(bob, "private")
        await bob.profile.set(name="Mallory", organisation=None, contact=None)
        heard = ann.links.last_heard(bob.identity.node_id)
        bob.siblings.tell(ann.identity.node_id, full=False)
        await until(lambda: ann.links.last_heard(bob.identity.node_id) != heard)
        await trio.sleep(60)  # virtual time passes
        assert private not in ann.groups.places
        assert ann.profile.told is None
        assert not ann.siblings.key_holders
        assert list(ann.siblings.known.certificates) == [ann.identity.node_id]
        assert bob.identity.node_id in ann.groups.connected

    played(tmp_path, story)
