"""Properties of the whole: one set of operations, one state (docs/protocol.md §3.1), and replicas that agree (§5.3)."""

import itertools
from random import Random

from group_helpers import (
    ANN,
    BOB,
    CAT,
    DAN,
    EVE,
    NOW,
    Person,
    add_all,
    admission,
    admit,
    bind,
    converse,
    force,
    new_group,
    post,
    say,
    secret,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_twin import dumb_state

from protocol.errors import Refused
from protocol.fields import Role
from protocol.group.admission import seed_public_key
from protocol.group.concurrency import Rulings
from protocol.group.key import GroupKey, commitment_of, seal_to_all
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import (
    InvitePost,
    InviteRevoke,
    KeyRotate,
    MemberLeave,
    MemberProfile,
    MemberRemove,
    MemberRole,
    NodeBind,
    NodeRevoke,
    Payload,
    RulingWitness,
    RunPropose,
    RunStart,
    RunStop,
)
from protocol.identity import make_revocation
from protocol.keys import Hash, RunId
from protocol.limits import EPOCH_STEP

PEOPLE = [ANN, BOB, CAT, DAN]
AUTHORS = [*PEOPLE, Person("ann-2", member="ann"), Person("dan-2", member="dan")]
JOINERS = [EVE, *(Person(name) for name in ("fay", "gil", "hal", "ida"))]
ROLES = ("member", "observer", "admin")
Step = tuple[int, int, int]
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.integers(0, 9)), min_size=5, max_size=40)
# Among four admins: Dan removes Ann and she him; or her second node revokes the first, and that the second. Then there
# are witnesses on either side, and whatever else happens before and after.
_ANYTHING = st.tuples(st.integers(0, 5), st.sampled_from((4, 6, 7, 9, 11, 12)), st.integers(0, 35))
_WITNESS = st.tuples(st.integers(0, 5), st.just(12), st.integers(0, 7))
_PAIR = st.sampled_from(([(3, 7, 0), (0, 7, 19)], [(4, 11, 21), (0, 11, 4)], [(3, 9, 24), (0, 7, 19)]))
QUARRELS = st.builds(
    lambda before, pair, witnesses, after: before + pair + witnesses + after,
    st.lists(_ANYTHING, max_size=3),
    _PAIR,
    st.lists(_WITNESS, max_size=6),
    st.lists(_ANYTHING, max_size=10),
)
# Somebody is let in on one side, where admins go on; others on other sides, by the same invitations.
_LET_IN = st.tuples(st.integers(0, 5), st.sampled_from((13, 13, 13, 14)), st.integers(0, 9))
_GOES_ON = st.tuples(st.integers(0, 5), st.just(12), st.sampled_from((0, 3, 6)))
REDEMPTIONS = st.builds(
    lambda before, let_in, go_on, others, after: before + let_in + go_on + others + after,
    st.lists(_GOES_ON, max_size=3),
    st.lists(st.tuples(st.integers(0, 5), st.just(13), st.sampled_from((0, 3, 6))), min_size=1, max_size=3),
    st.lists(_GOES_ON, min_size=2, max_size=6),
    st.lists(_LET_IN, min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from((6, 7, 9, 10, 12, 13, 14)), st.integers(0, 35)), max_size=12),
)


class World:
    """Some replicas, each written to by whoever is near it, that hear of each other now and then."""

    def __init__(self, roles: tuple[Role, ...] = ROLES) -> None:
        log = new_group()
        for person, role in zip((BOB, CAT, DAN), roles, strict=True):
            admit(log, person, role=role)
        for node, person in zip(AUTHORS[4:], (ANN, DAN), strict=True):
            bind(log, node, by=person)
        self.seeds: dict[Hash, bytes] = dict(post(log, uses=1 + number) for number in range(3))
        self.replicas = [log, log.copy(), log.copy()]

    def step(self, who: int, action: int, detail: int) -> None:
        log, author = self.replicas[detail % 3], JOINERS[who % 5] if action == 14 else AUTHORS[who]
        if action == 6:
            converse(log, self.replicas[(detail + 1) % 3])
            return
        payload = self._payload(log, author, action, detail)
        if payload is None:
            return
        try:
            operation = say(log, author, payload)
        except Refused:
            if detail % 2 == 0 or not log.bindings_of(author.node_id):
                return
            operation = force(log, author, payload)  # not every node keeps the rules
        self.seeds[operation.hash] = secret("seed", who, detail)

    def _payload(self, log: GroupLog, author: Person, action: int, detail: int) -> Payload | None:
        runs = list(log.state().runs)
        invitations = [invite_id for invite_id in log.state().invitations if invite_id in self.seeds]
        if action == 0:
            key = seed_public_key(secret("seed", AUTHORS.index(author), detail))
            return InvitePost(seed_public_key=key, role=ROLES[detail % 3], uses=1 + detail % 2, expires_at=NOW + detail)
        if action in (1, 13) and invitations:  # 13: the same invitation on several replicas
            number = detail if action == 1 else detail // 3
            invite_id = invitations[number % len(invitations)]
            joiner = JOINERS[(AUTHORS.index(author) + detail) % 5]
            return admission(
                log, joiner, invite_id, self.seeds[invite_id], by=author, admitted_at=NOW + 5 * (detail % 2)
            )
        if action == 2 and invitations:
            return InviteRevoke(invite_id=invitations[detail % len(invitations)])
        if action == 3:
            owner = (PEOPLE + JOINERS)[detail % 9]
            return NodeBind(certificate=Person(f"more-{detail}", member=owner.name).certificate)
        if action == 4:
            return RunPropose(manifest=bytes([1 + detail]))
        if action == 5 and runs:
            run = RunId(runs[detail % len(runs)])
            return RunStart(run=run, start=b"s") if detail % 2 else RunStop(run=run, reason="")
        if action == 7:
            return MemberRemove(member=(PEOPLE + JOINERS)[(detail + detail // 9) % 9].member_id, reason="")
        if action in (8, 14):
            return MemberLeave()
        if action == 9:
            return MemberRole(member=PEOPLE[detail % 4].member_id, role=ROLES[(detail + AUTHORS.index(author)) % 3])
        if action == 10:
            return rotation(log, epoch=EPOCH_STEP * (1 + detail % 3) + detail)
        if action == 11:
            node = (*AUTHORS, Person(f"more-{detail}", member=author.name))[detail % 7]
            return NodeRevoke(revocation=make_revocation(author.member_key, node.node_id, issued_at=NOW))
        if action == 12:
            name = f"{author.name} {detail}"
            return RulingWitness() if detail < 8 else MemberProfile(name=name, organisation="", contact="")
        return None


def rotation(log: GroupLog, epoch: int) -> KeyRotate:
    nodes = {node: entry.seal_key for node, entry in log.state().nodes.items()}
    key = GroupKey(epoch, secret("key", epoch))
    secrets = [secret("ephemeral", node) for node in nodes]
    sealed = seal_to_all(nodes, key, log.group, ephemeral_secrets=secrets)
    return KeyRotate(epoch=epoch, commitment=commitment_of(key), sealed=sealed)


def histories(steps: list[Step], roles: tuple[Role, ...] = ROLES) -> World:
    world = World(roles)
    for step in steps:
        world.step(*step)
    return world


@settings(max_examples=150)
@given(STEPS, st.randoms(use_true_random=False))
def test_the_state_depends_on_the_set_alone(steps: list[Step], random):
    """§3.1: whatever the order of arrival, however often, looked at in between or not; equal to the dumb twin's."""
    look_at(histories(steps), random)


@settings(max_examples=300)
@given(QUARRELS, st.randoms(use_true_random=False))
def test_quarrels_end_alike_everywhere(steps: list[Step], random):
    """§3.43: admins who put each other out, and others who build on that, or on something else."""
    look_at(histories(steps, ("admin", "admin", "admin")), random)


@settings(max_examples=150)
@given(REDEMPTIONS, st.randoms(use_true_random=False))
def test_joiners_are_displaced_alike_everywhere(steps: list[Step], random):
    """§3.47, §3.48: invitations that are redeemed on several sides, some of them by who comes too late."""
    look_at(histories(steps, ("admin", "admin", "member")), random)


def look_at(world: World, random: Random) -> None:
    everything = [operation for replica in world.replicas for operation in replica]
    expected = dumb_state(list({operation.hash: operation for operation in everything}.values()))
    for look in (True, False):
        random.shuffle(everything)
        log = GroupLog(world.replicas[0].group)
        for operation in everything + everything[:5]:
            log.add(operation.raw)
            if look:
                log.state()
        assert log.missing() == ()
        assert log.state() == expected
        assert list(log.state().members) == list(expected.members)


@settings(max_examples=150)
@given(STEPS)
def test_a_good_key_is_had_by_nobody_who_is_out(steps: list[Step]):
    """§5.10: whoever it was sealed to is in; and when all have heard of all, an admin makes one that is good."""
    world = histories(steps)
    log = world.replicas[0].copy()
    for replica in world.replicas:
        add_all(log, replica)
        state = log.state()
        good = [state.rotations[epoch] for epoch in state.good_epochs() if epoch]
        assert all(rotation.recipients <= state.nodes.keys() and rotation.by in state.nodes for rotation in good)
    admin = next(
        (author for author in AUTHORS if getattr(state.member_of(author.node_id), "role", "") == "admin"), None
    )
    if admin is not None:  # else one of those whom the admins let in is
        epoch = (max(state.rotations, default=0) // EPOCH_STEP + 1) * EPOCH_STEP
        say(log, admin, rotation(log, epoch))
        assert log.state().good_epochs()[0] == epoch


@settings(max_examples=150)
@given(STEPS)
def test_any_two_replicas_agree_after_a_conversation(steps: list[Step]):
    """§5.3: both hold the union, after three messages at the most when it fits one batch."""
    left, right, _ = histories(steps).replicas
    union = {operation.hash for log in (left, right) for operation in log}
    assert converse(left, right) <= 3
    assert {operation.hash for operation in left} == union == {operation.hash for operation in right}
    assert left.state() == right.state()
    assert converse(right, left) == 1


@settings(max_examples=50)
@given(STEPS)
def test_a_journal_replays_to_the_same_log(steps: list[Step]):
    """§3.1: what `add` returned, stored in that order and added again, gives the same."""
    source = histories(steps).replicas[0]
    log, journal = GroupLog(source.group), []
    for operation in sorted(source, key=lambda operation: operation.hash):
        journal += [added.raw for added in log.add(operation.raw).added]
    replayed = GroupLog(source.group)
    for raw in journal:
        assert replayed.add(raw).added
    assert replayed.state() == source.state()
    assert replayed.heads() == source.heads()


def test_the_world_reaches_interesting_places():
    """The properties above would hold for an idle group, too: see that ours is not."""
    steps = [(who, action, detail) for action in (1, 0, 1, 3, 4, 5, 2, 1) for who in range(4) for detail in range(10)]
    world = histories(steps)
    converse(world.replicas[0], world.replicas[1])
    state = world.replicas[0].state()
    assert len(state.members) >= 7
    assert len(state.runs) > 5
    assert {"used-up", "expired", "not-an-admin", "revoked"} <= set(state.refused.values())


def test_quarrels_reach_finality(monkeypatch):
    """§3.43: see that the random ones do, too."""
    found = []
    plain = Rulings._find_finals

    def noted(self, electorates):
        finals = plain(self, electorates)
        found.append(finals)
        return finals

    monkeypatch.setattr(Rulings, "_find_finals", noted)
    pair = [(3, 7, 0), (0, 7, 19)]
    for who in itertools.product(range(6), repeat=2):
        look_at(histories(pair + [(each, 12, 3) for each in who], ("admin", "admin", "admin")), Random(3))
    assert sum(map(bool, found)) > 5


def test_redemptions_reach_finality():
    """§3.47, §3.48: see that the random ones do, too; and that rulings fall."""
    aside = fallen = 0
    for seed in range(60):
        random = Random(seed)
        # Somebody is let in on the first side, where the admins go on; others on the others, and some leave.
        steps = [(0, 12, 0), (0, 13, 0), *((who, 12, 0) for who in random.choices(range(3), k=4))]
        steps += [(random.randrange(3), random.choice((13, 13, 14)), random.randrange(3)) for _ in range(12)]
        world = histories(steps, ("admin", "admin", "member"))
        log = world.replicas[0]
        for replica in world.replicas[1:]:
            add_all(log, replica)
        assert log.state() == dumb_state(list(log))
        aside += bool(log._redemptions.set_aside)
        fallen += bool(log._rulings._dropped)
    assert aside > 3
    assert fallen > 3
