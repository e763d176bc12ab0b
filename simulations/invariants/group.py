"""What must hold of the group, whoever is put out of it and whoever lies: one state in the end, a door that is shut to
all others, one good key that exactly those have who are in, and nothing taken from who is out.
"""

from collections import Counter
from collections.abc import Sequence

import trio

from node.membership.group_place import GroupPlace
from protocol.group.state import GroupState
from protocol.keys import GroupId, Hash, NodeId
from simulations.invariants.run import Invariants
from simulations.nodes.simulated_node import SimulatedNode

# Of a group's state, what people and runs go by. The rest follows from the same log by the same code.
COMPARED = ("members", "nodes", "revoked", "former", "invitations")


class GroupTwin:
    """The group of a simulation, looked at from outside.

    Args:
        nodes: all of the cast.
        rogues: those that do not keep the group's rules: what they believe themselves is their own matter.
    """

    def __init__(self, nodes: Sequence[SimulatedNode], rogues: frozenset[int], twin: Invariants) -> None:
        self._nodes = nodes
        self._rogues = rogues
        self._twin = twin
        self._cast = {node.node_id for node in nodes}
        self._were_in: set[NodeId] = set()
        self._known_at: dict[NodeId, float] = {}  # since when everybody who is up and in knows that this node is out
        self._looked: tuple[float, bool] = (-1.0, False)

    # --- while it goes on ----------------------------------------------------------------------------------------
    def look(self) -> None:
        """Note who is out. Call it now and then."""
        if not self._is_anything_void():
            return
        states = [state for node in self.inside() if (state := _state_of(node)) is not None]
        self._were_in.update(*(state.nodes for state in states))
        for node in self._nodes:
            known = node.node_id in self._were_in and states and not any(state.admits(node.node_id) for state in states)
            if known:
                self._known_at.setdefault(node.node_id, trio.current_time())
            else:
                self._known_at.pop(node.node_id, None)

    def inside(self) -> list[SimulatedNode]:
        """The honest nodes that are up, and in the group as most of those see it."""
        agreed = self.agreed()
        return [node for node in self._honest() if agreed is not None and agreed.admits(node.node_id)]

    def agreed(self) -> GroupState | None:
        """The state that most honest nodes hold, of those that are in by their own word."""
        states: dict[frozenset[Hash], GroupState] = {}
        count: Counter[frozenset[Hash]] = Counter()
        for node in self._honest():
            place = place_of(node)
            if place is not None and place.state().admits(node.node_id):
                heads = frozenset(place.log.heads())
                states[heads] = place.state()
                count[heads] += 1
        return states[count.most_common(1)[0][0]] if count else None

    def is_out(self, node: SimulatedNode) -> bool:
        """Whether this node, which was let in once, is not in any more, as most see it."""
        if not self._is_anything_void() or (place_of(node) is None and not node.is_retired):
            return False
        agreed = self.agreed()
        return agreed is not None and not agreed.admits(node.node_id)

    def out(self) -> set[int]:
        """The numbers of all who are out."""
        return {node.number for node in self._nodes if self.is_out(node)}

    def members(self) -> int:
        agreed = self.agreed()
        return len(agreed.members) if agreed is not None else 0

    def _is_anything_void(self) -> bool:
        """Whether anybody has been put out, or any operation was void, as anybody sees it: else nothing is to be done.
        Looked at once for every moment."""
        now = trio.current_time()
        if self._looked[0] != now:
            states = (_state_of(node) for node in self._honest())
            found = any(state is not None and (state.former or state.revoked or state.refused) for state in states)
            self._looked = now, found
        return self._looked[1]

    def _honest(self) -> list[SimulatedNode]:
        return [node for node in self._nodes if node.is_up and node.number not in self._rogues]

    # --- the end -------------------------------------------------------------------------------------------------
    def wrong(self) -> str | None:
        """What is wrong with the group, once everything has had its time; None when nothing is."""
        agreed = self.agreed()
        if agreed is None:
            return "nobody is in the group"
        strangers = sorted(set(agreed.nodes) - self._cast)
        if strangers:
            return f"strangers are in the group: {', '.join(node[-8:] for node in strangers)}"
        inside = [node for node in self._honest() if agreed.admits(node.node_id)]
        for node in inside:
            if told := _differs(node, agreed) or self._door_of(node, agreed):
                return told
        return self._keys(inside) or self._contributions()

    def _door_of(self, node: SimulatedNode, agreed: GroupState) -> str | None:
        assert node.node is not None
        for other in sorted(self._cast - set(agreed.nodes)):
            if node.node.groups.admits(other):
                return f"{node.name} has its door open to {self._name(other)}, which is not in the group"
            if other in node.node.groups.connected:
                return f"{node.name} is connected to {self._name(other)}, which is not in the group"
        return None

    def _keys(self, inside: Sequence[SimulatedNode]) -> str | None:
        """All who are in have one good key, and it is nobody else's who is up."""
        newest = {}
        for node in inside:
            place = place_of(node)
            assert place is not None
            good = place.good_here()
            if not good:
                return f"{node.name} has no good key of the group"
            newest[node.name] = max(good)
        if len(set(newest.values())) > 1:
            return f"the newest good keys differ: {newest}"
        epoch = next(iter(newest.values()), 0)
        names = {node.name for node in inside}
        for node in self._nodes:
            place = place_of(node)
            if node.number in self._rogues or node.name in names or place is None:
                continue
            if self.is_out(node) and epoch in place.keys:
                return f"{node.name} is out, and has the key of epoch {epoch}"
        return None

    def _contributions(self) -> str | None:
        """No commit that was begun once everybody knew takes anything from who is out."""
        begun = {number: at for at, number in self._twin.commit_times}  # a round begins with the commit before it
        for number, name in sorted(self._twin.committed.items()):
            at = begun.get(number - 1)
            if at is None:
                continue
            for node in self._twin.contributors_of(name):
                known_at = self._known_at.get(NodeId(node))
                if known_at is not None and at > known_at:
                    return f"round {number} has an update of {self._name(node)}, which was out before it began"
        return None

    def _name(self, node_id: str) -> str:
        return next((node.name for node in self._nodes if node.node_id == node_id), node_id[-8:])


def place_of(node: SimulatedNode) -> GroupPlace | None:
    """The one group of the simulation, as this node has it."""
    places: dict[GroupId, GroupPlace] = node.node.groups.places if node.node is not None else {}
    return next(iter(places.values()), None)


def _state_of(node: SimulatedNode) -> GroupState | None:
    place = place_of(node)
    return place.state() if place is not None else None


def _differs(node: SimulatedNode, agreed: GroupState) -> str | None:
    state = _state_of(node)
    for what in COMPARED:
        mine, theirs = getattr(state, what, None), getattr(agreed, what)
        if mine != theirs:
            return f"{node.name} has other {what} than most: {_names(mine)}, not {_names(theirs)}"
    return None


def _names(entries: object) -> str:
    values = entries.values() if isinstance(entries, dict) else ()
    return ", ".join(sorted(getattr(each, "name", "?") for each in values)) or "none"
