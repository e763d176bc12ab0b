"""A group's log: the set of its operations as a graph, their canonical order, and what is missing.

Accepting an operation depends on it and its ancestors alone, never on the order of arrival or on what else is here, so
replicas that hold the same have accepted the same. Rules: docs/protocol.md §2.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from protocol.errors import RemoteProtocolError
from protocol.group.concurrency import Rulings
from protocol.group.departures import with_spoilt_key
from protocol.group.finality import Electorate, asked_nodes, electorate_of
from protocol.group.history import GroupHistory
from protocol.group.operation_kinds import InvitePost, InviteRevoke, KeyRotate, MemberAdmit, NodeBind
from protocol.group.operations import OpenOperation, open_operation
from protocol.group.redemptions import USED_UP, Redemptions, electorate_at
from protocol.group.reducer import apply, as_ruling, check_not_too_old
from protocol.group.rulings import RULINGS, concerned_by
from protocol.group.state import GroupState, Ruling
from protocol.group.waiting_room import WaitingRoom
from protocol.keys import GroupId, Hash, MemberId, NodeId
from protocol.wire import hash_of

# On these alone depends who is in the group, and as what.
_OF_MEMBERSHIP = (*RULINGS, InvitePost, InviteRevoke, MemberAdmit, NodeBind)
_PASTS_MAX = 16  # remembered states of rulings' pasts: as many as chains of rulings usually grow side by side


@dataclass(frozen=True, slots=True)
class Addition:
    """What came of adding one operation.

    `added`: what is new in the log, in an order in which it can be stored and added again: the operation itself, then
    those that had waited for it. `missing`: what it waits for now. Both are empty when it was known.
    """

    added: tuple[OpenOperation, ...] = ()
    missing: tuple[Hash, ...] = ()


class GroupLog:
    """The operations of one group that this node holds. Only grows. The owner makes durable what `add` returns."""

    def __init__(self, group: GroupId) -> None:
        self.group = group
        self._operations: dict[Hash, OpenOperation] = {}
        self._depths: dict[Hash, int] = {}
        self._order: list[tuple[int, Hash]] = []  # canonical: by depth, then by hash
        self._heads: set[Hash] = set()
        self._tips: dict[NodeId, set[Hash]] = {}  # by author: those that no later one of its own follows
        self._bindings: dict[NodeId, tuple[Hash, ...]] = {}  # operations that carry a certificate of this node
        self._waiting = WaitingRoom()
        self._history = GroupHistory(group)
        self._rulings = Rulings()
        self._redemptions = Redemptions(self._place)
        self._asked: dict[Hash, Electorate] = {}  # of invitations that were redeemed too often
        self._sound: GroupState | None = None  # the last state that was found to void no ruling that stands
        self._pasts: dict[frozenset[Hash], GroupState] = {}  # of the last rulings: all that these rest on, and they
        self._commons: dict[frozenset[tuple[Hash, ...]], tuple[frozenset[Hash], GroupState]] = {}  # of the last pairs
        self._known_out: dict[Hash, frozenset[MemberId]] = {}  # by new key: of whose being out its maker knew
        # Of all pairs that were ever asked for: so the state of one pair's past never has to ask for an earlier pair's.
        self._electorates: dict[tuple[Hash, Hash], Electorate] = {}

    def __len__(self) -> int:
        return len(self._operations)

    def __contains__(self, operation: object) -> bool:
        return operation in self._operations

    def __getitem__(self, operation: Hash) -> OpenOperation:
        return self._operations[operation]

    def __iter__(self) -> Iterator[OpenOperation]:
        """All operations in canonical order."""
        return (self._operations[hash_] for _, hash_ in self._order)

    def add(self, raw: bytes, *, may_wait: bool = True) -> Addition:
        """Take an operation in, if all that it rests on is here; else let it wait (unless not `may_wait`).

        Raises:
            RemoteProtocolError: it is malformed, badly signed, of another group, or stands where it cannot.
        """
        hash_ = hash_of(raw)
        if hash_ in self._operations:
            return Addition()
        if hash_ in self._waiting:
            return Addition(missing=self._waiting.lacked_by(hash_))
        operation = open_operation(raw)
        if operation.group != self.group:
            raise RemoteProtocolError(f"An operation of group {operation.group[:12]} came to group {self.group[:12]}")
        missing = tuple(sorted(hash_ for hash_ in operation.dependencies if hash_ not in self._operations))
        if missing:
            if may_wait:
                self._waiting.put(operation, missing)
            return Addition(missing=missing)
        self._accept(operation)
        return Addition(added=(operation, *self._wake(hash_)))

    def state(self) -> GroupState:
        """What the log amounts to. Raises NodeTooOld when this version does not understand all that matters in it."""
        return check_not_too_old(self._folded())

    def heads(self) -> tuple[Hash, ...]:
        """The operations that no other rests on, deepest first: the next operation's parents."""
        return tuple(sorted(self._heads, key=self._place, reverse=True))

    def missing(self) -> tuple[Hash, ...]:
        """What waiting operations lack and nobody has brought yet, sorted."""
        return self._waiting.missing()

    def tip_of(self, author: NodeId) -> Hash:
        """The author's last operation, for `previous` of its next: the deepest where its chain forks, "" at first."""
        tips = self._tips.get(author)
        return max(tips, key=self._place) if tips else Hash("")

    def bindings_of(self, node_id: NodeId) -> tuple[Hash, ...]:
        """The operations that carry a certificate of `node_id`, whether they counted or not."""
        return self._bindings.get(node_id, ())

    def ancestors(self, operations: Iterable[Hash]) -> set[Hash]:
        """`operations` and all that they rest on. Those that are not here are passed over."""
        found = {hash_ for hash_ in operations if hash_ in self._operations}
        unvisited = list(found)
        while unvisited:
            for dependency in self._operations[unvisited.pop()].dependencies:
                if dependency not in found:
                    found.add(dependency)
                    unvisited.append(dependency)
        return found

    def operations_since(self, heads: Iterable[Hash]) -> list[OpenOperation]:
        """All but `heads` and what they rest on, in canonical order: what somebody with these heads lacks."""
        known = self.ancestors(heads)
        return [self._operations[hash_] for _, hash_ in self._order if hash_ not in known]

    def sample(self) -> tuple[Hash, ...]:
        """The last eight operations in canonical order, then ever sparser ones back to the beginning.

        It tells somebody whose log has parted from ours about how far the two still agree."""
        distances = [*range(1, 9), *(1 << power for power in range(4, len(self._order).bit_length()))]
        return tuple(self._order[-distance][1] for distance in distances if distance <= len(self._order))

    def copy(self) -> "GroupLog":
        """An independent log of the same content, without checking it all again."""
        other = GroupLog(self.group)
        other._operations, other._depths = dict(self._operations), dict(self._depths)
        other._order, other._heads = list(self._order), set(self._heads)
        other._tips = {author: set(tips) for author, tips in self._tips.items()}
        other._bindings = dict(self._bindings)
        other._waiting, other._history = self._waiting.copy(), self._history.copy()
        other._rulings = self._rulings.copy()
        other._electorates = dict(self._electorates)
        other._redemptions, other._asked = self._redemptions.copy(other._place), dict(self._asked)
        return other

    def _folded(self) -> GroupState:
        """The state, too old or not. Where the fold voids a ruling that was thought to stand, or lets an admission
        displace one that is final, it begins again."""
        if self._redemptions.have_moved():
            self._reconsider()
        if self._rulings.settle(self._electorate):
            self._redemptions.reconsider()
            self._history.inserted_at(0)
        while True:
            if self._rulings.settle(self._electorate):
                self._history.inserted_at(0)
            state = self._history.state(len(self._order), self._step)
            if state is self._sound:
                return state
            if self._rulings.drop(state.refused):
                continue
            displacing = self._redemptions.displacing(state, self, self._electorate_of_invitation)
            if not displacing:
                self._sound = state
                return state
            self._redemptions.set_aside |= displacing
            self._rulings.reconsider()
            self._history.inserted_at(0)

    def _reconsider(self) -> None:
        self._sound = None
        self._rulings.reconsider()
        if self._redemptions.reconsider():
            self._history.inserted_at(0)

    def _step(self, state: GroupState, position: int) -> GroupState:
        operation = self._operations[self._order[position][1]]
        after = _step(state, operation, self._rulings, self._redemptions.set_aside)
        if isinstance(operation.payload, KeyRotate) and operation.hash not in after.refused:
            in_vain = {member for member, former in state.former.items() if former.void}
            if not in_vain <= self._knew_out(operation, in_vain):
                return with_spoilt_key(after, operation.payload.epoch)
        return after

    def _knew_out(self, operation: OpenOperation, members: Collection[MemberId]) -> frozenset[MemberId]:
        """Which `members` were out as far as the operation's author knew."""
        if not members:
            return frozenset()
        known = self._known_out.get(operation.hash)
        if known is None:
            past = self._past_state(operation, self.ancestors(operation.dependencies))
            known = self._known_out[operation.hash] = frozenset(past.former)
        return known

    def _place(self, hash_: Hash) -> tuple[int, Hash]:
        return self._depths[hash_], hash_

    def _wake(self, arrived: Hash) -> list[OpenOperation]:
        woken: list[OpenOperation] = []
        arrivals = deque([arrived])
        while arrivals:
            for operation in self._waiting.arrived(arrivals.popleft()):
                try:
                    self._accept(operation)
                except RemoteProtocolError:
                    continue  # it was wrong all along; who sent it is no longer known
                woken.append(operation)
                arrivals.append(operation.hash)
        return woken

    def _accept(self, operation: OpenOperation) -> None:
        """Raises RemoteProtocolError, and changes nothing, when the operation cannot stand on its ancestors."""
        self._check_author(operation)
        self._insert(operation)

    def _insert(self, operation: OpenOperation) -> None:
        hash_, author = operation.hash, operation.author
        depth = 1 + max((self._depths[dependency] for dependency in operation.dependencies), default=-1)
        self._rulings.accepted(hash_, author, operation.dependencies)
        if isinstance(operation.payload, RULINGS):
            self._add_ruling(operation, depth)
        if isinstance(operation.payload, _OF_MEMBERSHIP):  # else all that was found of those before it stays so
            self._reconsider()
        self._redemptions.accepted(operation)
        self._operations[hash_], self._depths[hash_] = operation, depth
        position = bisect_left(self._order, (depth, hash_))
        self._order.insert(position, (depth, hash_))
        self._history.inserted_at(position)
        self._heads.difference_update(operation.dependencies)
        self._heads.add(hash_)
        tips = self._tips.setdefault(author, set())
        tips.discard(operation.body.previous)
        tips.add(hash_)
        if operation.certificate is not None:
            node_id = operation.certificate.node_id
            self._bindings[node_id] = (*self._bindings.get(node_id, ()), hash_)

    def _add_ruling(self, operation: OpenOperation, depth: int) -> None:
        """Note a ruling, as it looks from its own past."""
        is_last = self._heads <= set(operation.dependencies)
        past = self._operations.keys() if is_last else self.ancestors(operation.dependencies)
        state = self._folded() if is_last else self._past_state(operation, past)
        ruling = as_ruling(state, operation, (depth, operation.hash))
        author, node = state.members.get(ruling.author), state.nodes.get(operation.author)
        if author is not None and author.grounds and node is not None and node.ground is not None:
            admission, binding = author.grounds[0].operation, node.ground.operation
            ruling = replace(ruling, seniority=(self._place(admission), self._place(binding)))
            ruling = replace(
                ruling, wants_witnesses=bool(ruling.council) and not self._is_of_a_younger_node(ruling, state)
            )
        self._rulings.add(ruling, () if is_last else self._operations.keys() - past)
        self._remember(frozenset([operation.hash]), apply(state, operation, (), ruling.fault))

    def _is_of_a_younger_node(self, ruling: Ruling, past: GroupState) -> bool:
        """Whether a node revoked one that came later, which cannot undo it."""
        ground = past.nodes[ruling.node].ground if ruling.node else None
        return ground is not None and self._place(ground.operation) > ruling.seniority[1]

    def _electorate(self, ruling: Ruling, other: Ruling) -> Electorate:
        """Who is asked whether `ruling` is final against `other`."""
        electorate = self._electorates.get((ruling.operation, other.operation))
        if electorate is None:
            common_past, common = self._common(ruling.operation, other.operation)
            electorate = electorate_of(ruling, other, common, common_past)
            self._electorates[ruling.operation, other.operation] = electorate
        return electorate

    def _common(self, one: Hash, other: Hash) -> tuple[frozenset[Hash], GroupState]:
        """All that both rest on, and the state of that. Of a flood that rests on the same it is found once."""
        rest_on = frozenset(self._operations[each].dependencies for each in (one, other))
        known = self._commons.get(rest_on)
        if known is None:
            past = frozenset(set.intersection(*map(self.ancestors, rest_on)))
            tips = past - {below for hash_ in past for below in self._operations[hash_].dependencies}
            known = self._commons[rest_on] = past, self._pasts.get(tips) or self._fold_part(past)
            self._remember(tips, known[1])
            if len(self._commons) > _PASTS_MAX:
                del self._commons[next(iter(self._commons))]
        return known

    def asks(self, node: NodeId) -> bool:
        """Whether a removal of an admin, or a loss of that role, or a revocation of a member's older node stands, about
        which `node`'s member is asked (docs/protocol.md §3) and has written nothing since."""
        state = self._folded()
        member = state.nodes[node].member_id if node in state.nodes else None
        return member is not None and self._rulings.unwitnessed(lambda ruling: asked_nodes(ruling, member, node))

    def _past_state(self, operation: OpenOperation, past: Collection[Hash]) -> GroupState:
        """The state of what `operation` rests on, which is a part of the log: `past`."""
        deepest = max(operation.dependencies, key=self._place)
        only = len(operation.dependencies) == 1 or len(self.ancestors([deepest])) == len(past)
        key = frozenset([deepest] if only else operation.dependencies)
        state = self._pasts.get(key)
        if state is None:
            state = self._fold_part(past)
            self._remember(key, state)
        return state

    def _fold_part(self, past: Collection[Hash]) -> GroupState:
        rulings = self._rulings.within(past, lambda hash_: self._operations[hash_].author)
        order = [self._operations[hash_] for _, hash_ in self._order if hash_ in past]
        redemptions = self._redemptions.within(order)
        while True:
            rulings.settle(self._electorate)
            state = GroupState(self.group)
            for operation in order:
                state = _step(state, operation, rulings, redemptions.set_aside)
            if rulings.drop(state.refused):
                continue
            displacing = redemptions.displacing(state, order, self._electorate_of_invitation)
            if not displacing:
                return state
            redemptions.set_aside |= displacing
            rulings.reconsider()

    def _electorate_of_invitation(self, invitation: Hash) -> Electorate:
        if invitation not in self._asked:
            operation = self._operations[invitation]
            past = self._past_state(operation, self.ancestors(operation.dependencies))
            self._asked[invitation] = electorate_at(past)
        return self._asked[invitation]

    def _remember(self, tips: frozenset[Hash], state: GroupState) -> None:
        """Nothing is concurrent with what comes after all else, so a chain's next state is its last one's successor."""
        self._pasts.pop(tips, None)
        self._pasts[tips] = state
        if len(self._pasts) > _PASTS_MAX:
            del self._pasts[next(iter(self._pasts))]

    def _check_author(self, operation: OpenOperation) -> None:
        previous = operation.body.previous
        if previous and self._operations[previous].author != operation.author:
            raise RemoteProtocolError("An operation names somebody else's as its author's previous one")
        if operation.body.parents and not previous and not self._was_bound_before(operation):
            # Else anybody with a key of his own could fill the log.
            raise RemoteProtocolError(f"Node {operation.author} wrote an operation before anything made it a member")

    def _was_bound_before(self, operation: OpenOperation) -> bool:
        """Whether an ancestor carries the author's certificate."""
        bindings = set(self._bindings.get(operation.author, ()))
        if not bindings:
            return False
        shallowest = min(self._depths[hash_] for hash_ in bindings)
        visited = set(operation.dependencies)
        unvisited = list(visited)
        while unvisited:
            hash_ = unvisited.pop()
            if hash_ in bindings:
                return True
            further = [dep for dep in self._operations[hash_].dependencies if dep not in visited]
            visited.update(further)
            unvisited.extend(dep for dep in further if self._depths[dep] >= shallowest)
        return False


def _step(state: GroupState, operation: OpenOperation, rulings: Rulings, set_aside: Collection[Hash]) -> GroupState:
    if operation.hash in set_aside:
        return apply(state, operation, (), USED_UP)
    if not rulings.are_any:
        against: tuple[Ruling, ...] = ()
    elif isinstance(operation.payload, KeyRotate):
        against = rulings.beside(operation.hash)
    else:
        against = rulings.against(operation.hash, concerned_by(state, operation))
    return apply(state, operation, against, rulings.verdict(operation.hash))
