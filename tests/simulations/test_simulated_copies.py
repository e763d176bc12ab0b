"""A second node that runs with our key, on the simulated network. docs/protocol.md §12.10."""

from pathlib import Path

import pytest
import trio
from own_machines import Machines, group, played, until

from node.api.views import status_view
from node.home.doctor_checks import copies_check
from node.membership.copies import CLOCK_AHEAD_S, RESTART_S, Copies
from node.node import Node
from protocol.group.address_record import AddressRecord, make_address_record

AWAY = "/ip4/192.0.2.9/tcp/4001"


def record_of(node: Node, made_at: float) -> AddressRecord:
    """As a copy of the node makes it."""
    return AddressRecord(
        node_id=node.identity.node_id, addresses=(AWAY,), entrance_addresses=(), sequence=int(made_at * 1000)
    )


async def together(world: Machines) -> tuple[Node, Node]:
    ann, ben = await world.start("ann"), await world.start("ben")
    await group(ann, "study")
    invitation = await ann.service.invite(None, "member", 1, 86_400)
    await ben.service.join(invitation["token"])
    await until(lambda: ben.identity.node_id in ann.groups.connected)
    await trio.sleep(120)  # virtual time passes
    return ann, ben


def test_a_second_node_of_our_key_is_told_loudly(tmp_path: Path) -> None:
    """§12.10 `a_second_node_of_our_key_is_told`"""

    async def story(world: Machines) -> None:
        ann, ben = await together(world)
        assert status_view(ben)["trouble"] == ""
        copy = record_of(ben, ben.now() + 5)
        book = ann.groups.neighbours.addresses
        book.learn(make_address_record(ben.identity.keys.node, copy))  # the copy has told her
        await until(lambda: ben.copies.trouble)
        assert AWAY in status_view(ben)["trouble"]
        check = copies_check(ben.copies.trouble)
        assert (check.state, "revoke this node" in check.remedy) == ("wrong", True)
        await until(lambda: book.sequence(ben.identity.node_id) > copy.sequence)  # by which the copy hears of us
        renewed = book.sequence(ben.identity.node_id)
        assert not ann.copies.trouble
        await trio.sleep(600)  # virtual time passes
        assert book.sequence(ben.identity.node_id) == renewed  # once: the two do not go on for ever

    played(tmp_path, story)


def test_what_a_life_of_before_said_is_no_second_node(tmp_path: Path) -> None:
    """§12.10: also where a home came from a backup of the keys alone."""

    async def story(world: Machines) -> None:
        _, ben = await together(world)
        book = ben.groups.neighbours.addresses
        book.learn(make_address_record(ben.identity.keys.node, record_of(ben, ben.started_at - 3600)))
        world.stop("ben")
        ben = await world.start("ben")
        await trio.sleep(600)  # virtual time passes
        assert not ben.copies.trouble

    played(tmp_path, story)


@pytest.mark.parametrize(
    ("made_at", "is_told"),
    [
        (900.0, False),
        (1000.0 + RESTART_S, False),
        (1010.0, True),
        (2000.0 + CLOCK_AHEAD_S - 1, True),
        (2000.0 + CLOCK_AHEAD_S + 1, False),
    ],
)
def test_only_what_was_made_since_we_started_counts(made_at: float, is_told: bool) -> None:
    """§12.10: our own records from when the clock was wrong say nothing."""
    told: list[str] = []
    copies = Copies(1000.0, lambda: 2000.0, told.append)
    record = AddressRecord(
        node_id="12D3KooW" + "A" * 44, addresses=(), entrance_addresses=(), sequence=int(made_at * 1e3)
    )
    copies.heard(record)
    copies.heard(record)
    assert len(told) == is_told
    assert bool(copies.trouble) is is_told
    assert copies_check(copies.trouble).state == ("wrong" if is_told else "ok")
