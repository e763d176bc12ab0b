"""The ground on which attacks are tried: three real nodes, a run among them, and what an attack may cost them.

`under` tries attacks while the friends train, and says what each got. It checks that the run went on at half its pace
at least, that no node's memory grew by more than MEMORY_BYTES_MAX, and that no handler but the
entrance's got a stranger's byte.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
from hostile_person import Person
from hostile_wire import Wire
from nodes import RealNode, Study, wait_until

from node.network.addresses import host_and_port
from protocol.entrance.invitation import Invitation, open_token
from protocol.keys import GroupId, MemberId, node_public_key

TRAINING_S = 0.2  # of a round, so that its pace hangs on the nodes' answers and not on what else the machine does
WARM_UP_ROUNDS = 5
WINDOW_S = 2.5  # about ten rounds; attacks take as long at least
TRIES = 3  # at measuring the pace: the machine may have been busy with something else
PACE_SHARE_MIN = 0.5
MEMORY_BYTES_MAX = 50 * 1024 * 1024
MEMORY_LOOK_S = 0.05

Attack = Callable[["Scene"], str]


class Scene:
    """The nodes, their run, and the persons who mean harm. Alpha is the one who is attacked."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.nodes = study.nodes
        self.alpha, self.beta, self.gamma = study.nodes
        self._status = {node.name: node.client.status() for node in study.nodes}
        self.token = str(self.alpha.client.invite(uses=50)["token"])
        self.invitation: Invitation = open_token(self.token, now=int(time.time()))
        self.group: GroupId = self.invitation.group
        self.mallory = self.admitted("mallory", self.token)
        self.run = study.propose(self.beta, pause_s=TRAINING_S)
        self._held: list[Wire] = []
        self.beta.wait_for_round(self.run, WARM_UP_ROUNDS)

    # --- where and who -------------------------------------------------------------------------------------------
    @property
    def door(self) -> str:
        return self.door_of(self.alpha)

    @property
    def entrance(self) -> str:
        return self.entrance_of(self.alpha)

    def door_of(self, node: RealNode) -> str:
        return str(self._status[node.name]["addresses"][0])

    def entrance_of(self, node: RealNode) -> str:
        return str(self._status[node.name]["entrance_addresses"][0])

    @property
    def entrance_socket(self) -> tuple[str, int]:
        return host_and_port(self.entrance)

    def key_of(self, node: RealNode) -> bytes:
        return node_public_key(node.node_id)

    def certificate_of(self, node: RealNode) -> bytes:
        payloads = [each.payload for each in self.mallory.log if each.certificate is not None
                    and each.certificate.node_id == node.node_id]  # fmt: skip
        return bytes(payloads[0].certificate)  # type: ignore[union-attr]

    def admitted(self, name: str, token: str) -> Person:
        """A person whom the group has let in, at gamma's entrance, and of whom alpha knows."""
        person = Person(name).join(token, self.entrance_of(self.gamma), self.gamma.node_id)
        for node in self.nodes:
            wait_until(
                lambda node=node: person.node_id in self.node_ids(node), f"{node.name} hears of {name}'s admission"
            )
        return person

    def member(self, name: str, role: str = "member") -> Person:
        """One more who is let in, to do harm under a name that no other attack has used up."""
        token = self.token if role == "member" else str(self.alpha.told("invite", "--role", role)["token"])
        return self.admitted(name, token)

    def node_ids(self, node: RealNode) -> set[str]:
        group = node.client.group("study")
        return {each["node_id"] for member in group["members"] for each in member["nodes"]}

    def member_id_of(self, node: RealNode) -> MemberId:
        members = self.alpha.client.group("study")["members"]
        return next(each["member_id"] for each in members if node.node_id in {n["node_id"] for n in each["nodes"]})

    # --- what it costs -------------------------------------------------------------------------------------------
    def under(self, attacks: Mapping[Attack, str], at_once: int = 1) -> dict[str, str]:
        """Try `attacks`, so many at once, and again where the pace was not kept, up to TRIES times. Gives what each got
        at first."""
        found: dict[str, str] = {}
        for _ in range(TRIES):
            quiet = self._pace(lambda: None)
            with self._memory_watched():
                pace = self._pace(lambda: self._try(attacks, found, at_once))
            if pace >= PACE_SHARE_MIN * quiet:
                break
        assert pace >= PACE_SHARE_MIN * quiet, f"{pace:.1f} rounds/s under attack, {quiet:.1f} without"
        for node in self.nodes:
            assert node.client.status()["stranger_bytes"] == 0, node.name
        return found

    def _try(self, attacks: Iterable[Attack], found: dict[str, str], at_once: int) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            for attack, word in zip(attacks, pool.map(lambda attack: attack(self), attacks), strict=True):
                found.setdefault(attack.__name__, word)

    def _pace(self, meanwhile: Callable[[], None]) -> float:
        """Rounds per second of the run, by beta's and gamma's word, in a window that `meanwhile` falls into."""
        before, begun = self._round(), time.monotonic()
        meanwhile()
        time.sleep(max(0.0, begun + WINDOW_S - time.monotonic()))
        return (self._round() - before) / (time.monotonic() - begun)

    def _round(self) -> int:
        return int(self.gamma.client.run(self.run)["round"])

    def _memory(self) -> dict[str, int]:
        """Bytes that each node's own process has."""
        return {node.name: int(psutil.Process(node.pid).memory_info().rss) for node in self.nodes}

    @contextmanager
    def _memory_watched(self) -> Iterator[None]:
        before = self._memory()
        most, over = dict(before), threading.Event()

        def look() -> None:
            while not over.wait(MEMORY_LOOK_S):
                for name, size in self._memory().items():
                    most[name] = max(most[name], size)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        grown = {name: size - before[name] for name, size in most.items()}
        assert max(grown.values()) <= MEMORY_BYTES_MAX, f"grown by, in bytes: {grown}"

    # --- what stays open -----------------------------------------------------------------------------------------
    def hold(self, wire: Wire) -> None:
        """Keep a connection open beside the attacks that follow."""
        self._held.append(wire)

    def let_go(self, within_s: float) -> list[bool]:
        """Whether the node hangs up, within so long from now, on each of what is held; they are closed then."""
        deadline = time.monotonic() + within_s
        ends = [wire.is_hung_up(max(deadline - time.monotonic(), 0.1)) for wire in self._held]
        for wire in self._held:
            wire.close()
        self._held.clear()
        return ends

    def facts(self) -> dict[str, Any]:
        """What no attack may change at any of the friends: the group's members but for those that we let in, the runs,
        and what the friends say of themselves."""
        ours = {node.node_id for node in self.nodes}
        facts: dict[str, Any] = {}
        for node in self.nodes:
            peers = [peer for peer in node.client.peers()["peers"] if peer["node_id"] in ours]
            facts[node.name] = {
                "nodes": ours & self.node_ids(node),
                "runs": {seen["run_id"] for seen in node.client.runs()["runs"]},
                "peers": {(peer["name"], peer["version"], *peer["addresses"]) for peer in peers},
                "connected": {peer["name"] for peer in peers if peer["connected"]},
            }
        return facts
