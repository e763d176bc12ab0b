"""The nodes of one simulation: made for a scenario, given their data, put into one group, brought in and out.

Who is in the group from the start is placed there; who comes later joins with a token, as a person would.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import trio

from node.data.shares import SAMPLES_PER_NODE_MIN, DigitsSplit, digits_split
from node.home.identity import Keys
from node.node import Node
from node.seams import Trainer
from protocol.errors import FednodeError
from protocol.keys import NodeId
from protocol.limits import ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE
from simulations.faults.knocker import TOKEN_TRICKS, knock, token_for
from simulations.faults.liars import AGGREGATOR_LIES, LyingTrainer, make_liar
from simulations.faults.lies import TRAINER_LIES
from simulations.faults.rogues import MEMBER_LIES, misbehave
from simulations.faults.stranger import Stranger, stranger_key
from simulations.nodes.seeded_group import Placed, place_group
from simulations.nodes.simulated_node import EPOCH_S, SimulatedNode, in_process_trainer, keys_of
from simulations.plan.faults import cohorts_of, numbers_of
from simulations.plan.scenario import Cohort, Profile, Scenario
from simulations.world.disk import ChunkPool
from simulations.world.network import SimulatedWorld
from simulations.world.network_wires import WireProfile
from simulations.world.record import SharedStore
from simulations.world.watch import Watch

if TYPE_CHECKING:
    from simulations.training.batched import BatchedTraining

log = logging.getLogger("fednode.simulated")

GROUP = "simulation"
DATA = "digits"
# An entrance takes so many attempts a minute; waiting costs nothing in virtual time.
JOIN_PAUSE_S = 60.0 / ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE
INVITATION_S = 30 * 86_400
FIRST_STRANGER = 1_000_000  # far from all numbers of the cast
ORDINARY = Cohort(name="others", count=1)


class Cast:
    """All nodes of the scenario, by number.

    Args:
        folder: for data and tasks' state; the caller's to make and to remove.
        watch: told what nodes keep and send; None where nobody looks.
        together: trains the nodes together where it can; None: one after another.
    """

    def __init__(
        self,
        scenario: Scenario,
        nodes: int,
        seed: int,
        world: SimulatedWorld,
        store: SharedStore,
        folder: Path,
        watch: Watch | None,
        together: "BatchedTraining | None" = None,
    ) -> None:
        self.scenario = scenario
        self.cohorts = cohorts_of(scenario, nodes)
        self.nodes: list[SimulatedNode] = []
        self._seed = seed
        self._world = world
        self._store = store
        self._folder = folder
        self._watch = watch
        self._together = together
        self._pool = ChunkPool()
        self._paths: list[Path] = []
        self._token = ""  # of all who join, but for those whose cohorts share one of their own
        self._tokens: dict[str, str] = {}
        for number in range(nodes):
            self.nodes.append(self._make(number))
        self.late = frozenset(node.number for node in self.nodes if self.cohort_of(node.number).join_at_s)

    @property
    def liars(self) -> frozenset[int]:
        """The nodes that lie as aggregators."""
        return frozenset(n.number for n in self.nodes if self.cohort_of(n.number).lies in AGGREGATOR_LIES)

    @property
    def rogues(self) -> frozenset[int]:
        """The nodes that do not keep the group's rules."""
        return frozenset(n.number for n in self.nodes if self.cohort_of(n.number).lies in MEMBER_LIES)

    def cohort_of(self, number: int) -> Cohort:
        for cohort in self.scenario.cohort:
            if number in self.cohorts[cohort.name]:
                return cohort
        return ORDINARY

    def named(self, names: Sequence[str]) -> set[int]:
        """The numbers of all nodes behind names of nodes and cohorts."""
        return {number for name in names for number in numbers_of(name, self.cohorts, len(self.nodes))}

    # --- making --------------------------------------------------------------------------------------------------
    def _make(self, number: int) -> SimulatedNode:
        folder = self._folder / f"node-{number}"
        folder.mkdir()
        cohort = self.cohort_of(number)
        node = SimulatedNode(
            number,
            self._seed,
            self._world,
            self._store,
            folder,
            partial(self._trainer, cohort),
            pool=self._pool,
            on_append=partial(self._on_append, number, self._watch) if self._watch is not None else None,
            on_life=partial(self._corrupt, cohort),
        )
        node.disk.slow_s = cohort.disk_write_s
        self._world.lines.limit(node.node_id, cohort.up_bits_per_s, cohort.down_bits_per_s)
        if cohort.one_member:
            first = keys_of(self.cohorts[cohort.name][0], self._seed)
            node.keys = replace(node.keys, member_key=first.member_key)
        return node

    def _on_append(self, number: int, watch: Watch, journal: str, record: bytes) -> None:
        watch.on_append(self.nodes[number].node_id, journal, record)

    def _trainer(self, cohort: Cohort, number: int, folder: Path) -> Trainer:
        honest = in_process_trainer(cohort.samples_per_s, self._together)(number, folder)
        if cohort.lies not in TRAINER_LIES:
            return honest
        return LyingTrainer(honest, str(cohort.lies), cohort.lies_from_round, f"lies of {number} of {self._seed}")

    def _corrupt(self, cohort: Cohort, node: Node) -> None:
        if cohort.lies in AGGREGATOR_LIES:
            make_liar(node, str(cohort.lies), cohort.lies_from_round)

    def lay_wires(self) -> None:
        """The scenario's links, in the order of the file: a later one counts."""
        wires, all_numbers = self._world.wires, range(len(self.nodes))
        for link in self.scenario.link:
            sources = numbers_of(link.source, self.cohorts, len(all_numbers))
            targets = numbers_of(link.target, self.cohorts, len(all_numbers))
            for source in sources:
                for target in targets:
                    if source == target:
                        continue
                    one, other = self.nodes[source].node_id, self.nodes[target].node_id
                    wires.set_profile(one, other, wire_profile(link))
                    if link.both_ways:
                        wires.set_profile(other, one, wire_profile(link))
                    if link.only_source_dials and not (target in sources and source in targets):
                        self._world.one_way(one, other)

    # --- the group -----------------------------------------------------------------------------------------------
    async def gather(self, nursery: trio.Nursery) -> None:
        """Start everybody who is in from the beginning, in one group, with data and willing to take part."""
        split = self._split(digits_split(len(self.nodes), alpha=self.scenario.alpha, seed=self._seed))
        self._paths = split.write(self._folder / "data")
        early = [node for node in self.nodes if node.number not in self.late]
        if self.scenario.placed:
            placed = [self._placed(node) for node in early]
            random = Random(f"group of {self._seed}")
            await place_group(self._world, placed, GROUP, now_s=int(EPOCH_S), random=random)
        for node in early:
            await self._start(nursery, node)
        founder = self._up(0).service
        if not self.scenario.placed:
            await founder.create_group(GROUP)
        await self._invite(self._up(0))
        if not self.scenario.placed:
            for node in early[1:]:
                await self._join(node)
                await trio.sleep(JOIN_PAUSE_S)

    def _placed(self, node: SimulatedNode) -> Placed:
        keys, cohort = node.keys, self.cohort_of(node.number)
        whose = f"node-{self.cohorts[cohort.name][0]}" if cohort.one_member else ""
        seal = keys.seal_key.private_bytes_raw()
        return Placed(Keys(keys.key, keys.member_key, seal), node.name, node.disk, whose, cohort.role)

    async def _invite(self, founder: Node) -> None:
        """One token for all who join, and one that lets one in for each word of their cohorts."""
        sharing = {number: self.cohort_of(number).token for number in self.late if self.cohort_of(number).token}
        joiners = len(self.nodes) if not self.scenario.placed else len(self.late) - len(sharing)
        if joiners:
            self._token = (await founder.service.invite(None, "member", joiners, INVITATION_S))["token"]
        for word in sorted(set(sharing.values())):
            self._tokens[word] = (await founder.service.invite(None, "member", 1, INVITATION_S))["token"]

    def _split(self, split: DigitsSplit) -> DigitsSplit:
        """The shares, cut down for cohorts that have less."""
        shares = []
        for number, (x, y) in enumerate(split.shares):
            keep = max(min(SAMPLES_PER_NODE_MIN, len(y)), round(self.cohort_of(number).data * len(y)))
            rows = np.sort(np.random.Generator(np.random.PCG64(self._seed)).permutation(len(y))[:keep])
            shares.append((x[rows], y[rows]))
        return replace(split, shares=shares)

    async def _start(self, nursery: trio.Nursery, node: SimulatedNode) -> None:
        await nursery.start(node.live)
        await self._equip(self._up(node.number), node.number)

    async def _equip(self, node: Node, number: int) -> None:
        """What an owner does first: add data, and let runs in."""
        await node.service.data_views.register(DATA, str(self._paths[number]), {})
        await node.service.set_policy(["all"])

    async def _join(self, node: SimulatedNode) -> None:
        """Join with the token, again and again while nobody who could let it in is reached, or it is down itself."""
        while not node.is_retired:
            if node.node is not None:
                try:
                    await self._equip(node.node, node.number)
                    await node.node.service.join(self.token_of(node.number))
                    return
                except FednodeError as error:
                    log.info("%s could not join yet: %s", node.name, error)
            await trio.sleep(JOIN_PAUSE_S)

    def token_of(self, number: int) -> str:
        """The token that this node joins with."""
        return self._tokens.get(self.cohort_of(number).token) or self._token

    def _up(self, number: int) -> Node:
        node = self.nodes[number].node
        assert node is not None, f"node-{number} is down"
        return node

    # --- coming and going ----------------------------------------------------------------------------------------
    async def come_and_go(self, nursery: trio.Nursery) -> None:
        """From now on, the run's start, nodes join and leave at their times."""
        for node in self.nodes:
            cohort = self.cohort_of(node.number)
            place = self.cohorts.get(cohort.name, (node.number,)).index(node.number)
            if cohort.join_at_s:
                nursery.start_soon(self._come, nursery, node, cohort.join_at_s + place * cohort.join_every_s)
            if cohort.leave_at_s:
                nursery.start_soon(self._go, node, cohort.leave_at_s)
            if cohort.lies in MEMBER_LIES:
                nursery.start_soon(misbehave, node, str(cohort.lies), self._seed)
        for number in range(self.scenario.strangers):
            self._let_in_a_stranger(nursery, number, self.scenario.tricks[number % len(self.scenario.tricks)])

    def _let_in_a_stranger(self, nursery: trio.Nursery, number: int, trick: str) -> None:
        """Into the world; into the group is what it must never come."""
        victims = [node.node_id for node in self.nodes]
        if trick in TOKEN_TRICKS:
            nursery.start_soon(self._knock, number, trick, victims)
            return
        topic = next(iter(self._up(0).groups.places.values())).topic
        random = Random(f"stranger {number} of {self._seed}")
        stranger = Stranger(self._world, stranger_key(number, self._seed), random, victims, topic)
        nursery.start_soon(stranger.live, (trick,))

    async def _knock(self, number: int, trick: str, victims: list[NodeId]) -> None:
        used = next((self.token_of(number) for number in sorted(self.late)), "")
        token = await token_for(trick, self._up(0), used)
        folder = self._folder / f"stranger-{number}"
        folder.mkdir()
        trainer = partial(self._trainer, ORDINARY)
        node = SimulatedNode(FIRST_STRANGER + number, self._seed, self._world, self._store, folder, trainer)
        await knock(node, trick, token, self._world, victims)

    async def _come(self, nursery: trio.Nursery, node: SimulatedNode, after_s: float) -> None:
        await trio.sleep(after_s)
        nursery.start_soon(node.live)
        await self._join(node)

    async def _go(self, node: SimulatedNode, after_s: float) -> None:
        await trio.sleep(after_s)
        if node.is_up:
            node.kill()
            node.is_retired = True
            if self._watch is not None:
                self._watch.tell("dies", node.node_id, node.node_id, {})


def wire_profile(profile: Profile) -> WireProfile:
    return WireProfile(
        latency_s=profile.latency_s,
        jitter_s=profile.jitter_s,
        bytes_per_s=profile.bytes_per_s,
        stream_break_probability=profile.stream_break,
        gossip_loss_probability=profile.gossip_loss,
        gossip_duplicate_probability=profile.gossip_duplicate,
        gossip_delay_s=profile.gossip_delay_s,
    )
