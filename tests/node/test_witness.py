"""Nodes bear witness to removals of admins, once each, so that these become final (docs/protocol.md §3.45).

Real nodes in a simulated network, in virtual time.
"""

from pathlib import Path

import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from protocol.group.author import append
from protocol.group.operation_kinds import MemberRemove, RulingWitness
from protocol.limits import WITNESS_GAP_S

WITNESSED_S = 60.0  # of virtual time: more than the wait and its spread


def witnesses(life: Life) -> list[str]:
    log = life.place.log
    return sorted(
        life.place.state().nodes[operation.author].name
        for operation in log
        if isinstance(operation.payload, RulingWitness)
    )


async def of_admins(ground: HostileGround, count: int) -> list[Life]:
    lives = await ground.group(count)
    for life in lives[1:]:
        await lives[0].node.service.memberships.change_role("hostile", life.node.identity.member_id, "admin")
    await ground.settled(lambda: all(len(life.place.log) == len(lives[0].place.log) for life in lives), "all roles")
    return lives


async def remove(by: Life, whom: Life) -> None:
    await by.node.service.memberships.remove("hostile", whom.node.identity.member_id, "")


def test_who_is_asked_bears_witness_once_and_the_founder_does_not_return(tmp_path: Path) -> None:
    """§3.43, §3.45: the founder, removed, backdates a removal of who removed it; hers was final before that came."""

    async def main(ground: HostileGround) -> None:
        lives = await of_admins(ground, 4)
        founder, remover, *others = lives
        before = founder.place.log.copy()
        await remove(remover, founder)
        await ground.settled(lambda: len(witnesses(remover)) == 2, "two witnesses", WITNESSED_S)
        await trio.sleep(2 * WITNESS_GAP_S)  # virtual time passes
        assert all(witnesses(life) == ["node-2", "node-3"] for life in (remover, *others))
        counter = MemberRemove(member=remover.node.identity.member_id, reason="")
        backdated = append(before, founder.key, counter, claimed_at=0)
        await others[0].node.groups.on_kept(others[0].place, others[0].place.log.add(backdated.raw).added)
        await ground.settled(lambda: backdated.hash in remover.place.log, "the backdated removal")
        for life in (remover, *others):
            assert life.place.admits(remover.node.identity.node_id)
            assert not life.place.admits(founder.node.identity.node_id)
            assert life.place.state().refused == {backdated.hash: "beaten"}

    on_hostile_ground(tmp_path, main)


def test_roles_that_go_to_and_fro_make_nobody_write_all_the_time(tmp_path: Path) -> None:
    """§3.45: a hostile admin makes another a member and an admin again and again."""

    async def main(ground: HostileGround) -> None:
        lives = await of_admins(ground, 3)
        began = trio.current_time()
        for _ in range(20):
            for role in ("member", "admin", "member"):
                if lives[0].place.state().members[lives[1].node.identity.member_id].role != role:
                    await lives[0].node.service.memberships.change_role(
                        "hostile", lives[1].node.identity.member_id, role
                    )
                await trio.sleep(30)  # virtual time passes
        most = 1 + (trio.current_time() - began) / WITNESS_GAP_S
        assert 1 <= len(witnesses(lives[0])) <= most

    on_hostile_ground(tmp_path, main)
