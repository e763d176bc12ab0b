"""A group's state, straight from the sentences of docs/protocol.md §3, with nothing remembered between questions."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, cached_property

from slow_verdicts import takes_away, verdicts

from protocol.group.departures import with_spoilt_key
from protocol.group.finality import electorate_of
from protocol.group.operation_kinds import KeyRotate, MemberAdmit
from protocol.group.operations import OpenOperation
from protocol.group.reducer import apply, as_ruling
from protocol.group.rulings import RULINGS
from protocol.group.state import GroupState, Ruling
from protocol.keys import Hash, NodeId


class Twin:
    """The state, straight from the sentences, with nothing remembered between one question and the next."""

    def __init__(self, operations: list[OpenOperation]) -> None:
        self.by_hash = {operation.hash: operation for operation in operations}

    @cached_property
    def pasts(self) -> dict[Hash, frozenset[Hash]]:
        pasts: dict[Hash, frozenset[Hash]] = {}

        def past(hash_: Hash) -> frozenset[Hash]:
            if hash_ not in pasts:
                below = self.by_hash[hash_].dependencies
                pasts[hash_] = frozenset(below).union(*(past(dependency) for dependency in below))
            return pasts[hash_]

        for hash_ in self.by_hash:
            past(hash_)
        return pasts

    @cache  # noqa: B019  # a twin lives for one example
    def place(self, hash_: Hash) -> tuple[int, Hash]:
        return max((1 + self.place(below)[0] for below in self.by_hash[hash_].dependencies), default=0), hash_

    @cache  # noqa: B019
    def ruling(self, hash_: Hash) -> Ruling:
        past = self.state(self.pasts[hash_])
        ruling = as_ruling(past, self.by_hash[hash_], self.place(hash_))
        node = past.nodes.get(self.by_hash[hash_].author)
        if node is None:
            return ruling
        admission = past.members[ruling.author].grounds[0].operation
        return replace(ruling, seniority=(self.place(admission), self.place(node.ground.operation)))

    def concurrent(self, one: Hash, other: Hash) -> bool:
        return one != other and one not in self.pasts[other] and other not in self.pasts[one]

    def finals(self, rulings: list[Ruling], hashes: frozenset[Hash]) -> set[tuple[Hash, Hash]]:
        """The rulings that may be and are final against a senior's, where that is not final, too; and the other."""
        return {
            (one.operation, other.operation)
            for one in rulings
            for other in rulings
            if one.council
            and takes_away(one, other, self.concurrent)
            and takes_away(other, one, self.concurrent)
            and (other.seniority, other.place) < (one.seniority, one.place)
            and self.is_final(one, other, hashes)
            and not self.is_final(other, one, hashes)
        }

    def is_final(self, one: Ruling, other: Ruling, hashes: frozenset[Hash]) -> bool:
        common = self.pasts[one.operation] & self.pasts[other.operation]
        electorate = electorate_of(one, other, self.state(common), common)
        return self.has_built_on(one.operation, other.operation, electorate, hashes)

    def has_built_on(
        self, one: Hash, other: Hash, electorate: tuple[frozenset[NodeId], ...], hashes: frozenset[Hash]
    ) -> bool:
        """Whether more than half of the electorate has built on the one and not on the other."""
        votes = 0
        for nodes in electorate:
            below = [self.pasts[hash_] | {hash_} for hash_ in hashes if self.by_hash[hash_].author in nodes]
            is_for, is_against = (
                any(this in past and that not in past for past in below) for this, that in ((one, other), (other, one))
            )
            votes += is_for and not is_against
        return 2 * votes > len(electorate)

    @cache  # noqa: B019
    def state(self, hashes: frozenset[Hash]) -> GroupState:
        """Sort by depth and hash, apply one by one; and again, as long as a ruling turns out to be void, or else an
        admission to displace one that is final."""
        ordered = [self.by_hash[hash_] for hash_ in sorted(hashes, key=self.place)]
        if not ordered:
            return GroupState(next(iter(self.by_hash.values())).group)
        rulings = [self.ruling(each.hash) for each in ordered if isinstance(each.payload, RULINGS)]
        finals = self.finals([ruling for ruling in rulings if not ruling.fault], hashes)
        set_aside: set[Hash] = set()
        while True:
            state = self.without(set_aside, ordered, rulings, finals)
            more = self.displacing(state, ordered, set_aside)
            if not more:
                return state
            set_aside |= more

    def without(
        self,
        set_aside: set[Hash],
        ordered: list[OpenOperation],
        rulings: list[Ruling],
        finals: set[tuple[Hash, Hash]],
    ) -> GroupState:
        dropped: dict[Hash, str] = {}
        while True:
            codes = verdicts(rulings, self.concurrent, dropped, finals) | dict.fromkeys(set_aside, "used-up")
            state = GroupState(ordered[0].group)
            for each in ordered:
                against = [
                    ruling
                    for ruling in rulings
                    if not codes[ruling.operation] and self.concurrent(ruling.operation, each.hash)
                ]
                before, state = state, apply(state, each, against, codes.get(each.hash, ""))
                if isinstance(each.payload, KeyRotate) and each.hash not in state.refused:
                    in_vain = {member for member, former in before.former.items() if former.void}
                    if in_vain - self.state(self.pasts[each.hash]).former.keys():
                        state = with_spoilt_key(state, each.payload.epoch)
            void = [each.hash for each in ordered if codes.get(each.hash) == "" and each.hash in state.refused]
            if not void:
                return state
            refused = state.refused
            baseless = {ruling.operation for ruling in rulings if self.is_baseless(ruling, refused)} - dropped.keys()
            for hash_ in baseless if baseless.intersection(void) else void[:1]:
                dropped[hash_] = refused[hash_]

    def displacing(self, state: GroupState, ordered: list[OpenOperation], set_aside: set[Hash]) -> set[Hash]:
        """The admissions that displace one that is final against them."""
        found: set[Hash] = set()
        hashes = frozenset(each.hash for each in ordered)
        for invitation, entry in state.invitations.items():
            admissions = [each for each in ordered if getattr(each.payload, "invite_id", "") == invitation]
            admissions = [each for each in admissions if isinstance(each.payload, MemberAdmit)]
            late = [each for each in admissions if state.refused.get(each.hash) == "used-up"]
            of_one = [sum(each.author == other.author for other in late[: late.index(each) + 1]) for each in late]
            late = [each for each, nth in zip(late, of_one, strict=True) if nth <= entry.uses]
            late = [each for each in late if each.hash not in set_aside]
            admissions = [each for each in admissions if each.hash not in set_aside]
            admins = [one for one in self.state(self.pasts[invitation]).members.values() if one.role == "admin"]
            electorate = tuple(frozenset(admin.nodes) for admin in admins)

            def prevails(one: OpenOperation, other: OpenOperation, electorate=electorate) -> bool:
                before = self.place(other.hash) < self.place(one.hash)
                return before and self.has_built_on(one.hash, other.hash, electorate, hashes)

            kept = [
                each
                for each in late
                if any(prevails(each, other) for other in admissions if other.hash not in state.refused)
            ][: entry.uses]
            found |= {each.hash for each in admissions if each not in kept and any(prevails(one, each) for one in kept)}
        return found

    def is_baseless(self, ruling: Ruling, refused: Mapping[Hash, str]) -> bool:
        below = {*ruling.let_in, *(ground.operation for ground in ruling.grounds)} - {ruling.operation}
        codes = {refused[hash_] for hash_ in below & refused.keys()}
        return (
            not ruling.fault
            and ruling.operation in refused
            and bool(codes - {"beaten", "senior-stays", "already-bound"})
        )


def dumb_state(operations: list[OpenOperation]) -> GroupState:
    return Twin(operations).state(frozenset(operation.hash for operation in operations))
