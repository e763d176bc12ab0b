"""Who is put out, who leaves, who becomes what, and what holds where nobody knew of the other (docs/protocol.md §3)."""

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
    force,
    new_group,
    post,
    say,
    secret,
)
from test_group_state import CROWD, refused_with

from protocol.group.admission import seed_public_key
from protocol.group.key import GroupKey, commitment_of, seal_to_all
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import (
    InvitePost,
    InviteRevoke,
    KeyRotate,
    MemberLeave,
    MemberRemove,
    MemberRole,
    NodeBind,
    RunPropose,
    RunStart,
    RunStop,
)
from protocol.group.state import GroupState
from protocol.keys import RunId
from protocol.limits import EPOCH_STEP
from protocol.run.checkpoint import Ready, sign_note
from protocol.run.checkpoint import RunStart as StartedRun
from protocol.wire import pack


def remove(person: Person, reason: str = "") -> MemberRemove:
    return MemberRemove(member=person.member_id, reason=reason)


def role(person: Person, to: str) -> MemberRole:
    return MemberRole(member=person.member_id, role=to)


def rotate(log: GroupLog, epoch: int, *people: Person) -> KeyRotate:
    """A new key for the nodes of `people`, or of everybody in the group."""
    nodes = {node: entry.seal_key for node, entry in log.state().nodes.items()}
    if people:
        nodes = {person.node_id: CROWD.state().nodes[person.node_id].seal_key for person in people}
    key = GroupKey(epoch, secret("key", epoch))
    sealed = seal_to_all(nodes, key, log.group, ephemeral_secrets=[secret("e", node) for node in nodes])
    return KeyRotate(epoch=epoch, commitment=commitment_of(key), sealed=sealed)


def start_of(run: RunId, *ready: Person) -> bytes:
    notes = [
        sign_note(
            person.key,
            Ready(run=run, node=person.node_id, role="trainer", data_fingerprint="", capacity_class=1),
        )
        for person in ready
    ]
    return pack(StartedRun(run=run, roster=tuple(notes), tensor_schema="0" * 64, model="0" * 64))


def names(state: GroupState) -> list[str]:
    return [member.name for member in state.members.values()]


def merged(*logs: GroupLog) -> GroupState:
    """What all of them together amount to, which is the same in whatever order they hear of each other."""
    whole, other = logs[0].copy(), logs[-1].copy()
    for log in logs:
        add_all(whole, log)
    for log in reversed(logs):
        add_all(other, log)
    assert whole.state() == other.state()
    return whole.state()


# --- one after the other ---------------------------------------------------------------------------------------------


def test_a_removed_member_is_out_with_all_its_nodes():
    """§3.28, §3.31: it is remembered who did it and why, and what it writes later is void."""
    log = CROWD.copy()
    bob_2 = Person("bob-2", member="bob")
    bind(log, bob_2, by=BOB)
    removal = say(log, DAN, remove(BOB, "left the hospital"))
    state = log.state()
    assert names(state) == ["ann", "cat", "dan"]
    assert not state.admits(BOB.node_id)
    assert not state.admits(bob_2.node_id)
    former = state.former[BOB.member_id]
    assert (former.was.name, former.by, former.reason, former.removed) == (
        "bob",
        DAN.node_id,
        "left the hospital",
        True,
    )
    assert former.operation == removal.hash
    assert state.former_of(bob_2.node_id) == former
    assert refused_with(log, BOB, RunPropose(manifest=b"m")) == "not-a-member"
    assert refused_with(log, ANN, remove(BOB)) == "no-such-member"
    assert refused_with(log, DAN, remove(DAN)) == "removing-itself"


def test_roles_rule_who_rules():
    """§3.28, §5.9: members and observers neither remove, nor change roles, nor make keys."""
    for person in (BOB, CAT):
        assert refused_with(CROWD, person, remove(EVE)) == "not-an-admin"
        assert refused_with(CROWD, person, role(person, "admin")) == "not-an-admin"
        assert refused_with(CROWD, person, rotate(CROWD, EPOCH_STEP)) == "not-an-admin"
    assert refused_with(CROWD, ANN, role(EVE, "admin")) == "no-such-member"


def test_a_role_changes_what_one_may_do():
    """§3.29"""
    log = CROWD.copy()
    say(log, ANN, role(CAT, "admin"))
    say(log, CAT, role(DAN, "observer"))
    assert [member.role for member in log.state().members.values()] == ["admin", "member", "admin", "observer"]
    assert refused_with(log, DAN, remove(ANN)) == "not-an-admin"
    say(log, CAT, remove(ANN))
    assert names(log.state()) == ["bob", "cat", "dan"]


def test_a_group_keeps_an_admin():
    """§3.30: whoever is the last one first makes another."""
    log = CROWD.copy()
    say(log, DAN, MemberLeave())
    assert refused_with(log, ANN, MemberLeave()) == "last-admin"
    assert refused_with(log, ANN, role(ANN, "member")) == "last-admin"
    say(log, ANN, role(BOB, "admin"))
    say(log, ANN, MemberLeave())
    assert names(log.state()) == ["bob", "cat"]
    assert not log.state().former[ANN.member_id].removed


def test_who_is_alone_may_leave():
    """§3.30: also the second of two who leave without knowing of each other; nobody comes in any more."""
    log = new_group()
    assert refused_with(log, ANN, role(ANN, "member")) == "last-admin"
    here, there = log.copy(), log.copy()
    say(log, ANN, MemberLeave())
    assert (dict(log.state().members), dict(log.state().nodes)) == ({}, {})
    assert refused_with(log, ANN, MemberLeave()) == "not-a-member"
    admit(here, BOB, role="admin")
    add_all(there, here)
    say(here, ANN, MemberLeave())
    say(there, BOB, MemberLeave())
    assert not merged(here, there).members


def test_the_last_two_admins_do_not_both_leave():
    """§3.30: neither knew of the other; what the other did meanwhile still counts."""
    here, there = CROWD.copy(), CROWD.copy()
    left = {say(here, ANN, MemberLeave()).hash: ANN, say(there, DAN, MemberLeave()).hash: DAN}
    invite = say(here, BOB, RunPropose(manifest=b"m"))
    state = merged(here, there)
    assert state.refused == {max(left): "last-admin"}
    assert left[min(left)].member_id in state.former
    assert left[max(left)].member_id in state.members
    assert invite.hash in state.runs


def test_who_was_removed_needs_a_newer_invitation():
    """§3.36: the link with uses left is of no use any more; who left of its own will may use it."""
    log = new_group()
    invite_id, seed = post(log, uses=5)
    say(log, ANN, admission(log, BOB, invite_id, seed))
    say(log, ANN, admission(log, CAT, invite_id, seed))
    say(log, ANN, remove(BOB))
    say(log, CAT, MemberLeave())
    assert refused_with(log, ANN, admission(log, BOB, invite_id, seed)) == "removed"
    say(log, ANN, admission(log, CAT, invite_id, seed))
    newer, newer_seed = post(log)
    say(log, ANN, admission(log, BOB, newer, newer_seed))
    assert names(log.state()) == ["ann", "cat", "bob"]
    assert not log.state().former


def test_a_former_members_node_stays_its_own():
    """§3.18: also when it is out, nobody else can have it."""
    log = CROWD.copy()
    say(log, ANN, remove(BOB))
    stolen = Person("bob", member="ann", issued_at=NOW + 1)
    assert refused_with(log, ANN, NodeBind(certificate=stolen.certificate)) == "bound-to-another"


def test_a_removal_revokes_what_the_removed_had_sent_out():
    """§3.31"""
    log = CROWD.copy()
    invite_id, seed = post(log, DAN)
    say(log, ANN, remove(DAN))
    assert log.state().invitations[invite_id].revoked
    assert refused_with(log, BOB, admission(log, EVE, invite_id, seed, by=BOB)) == "revoked"


# --- concurrently ----------------------------------------------------------------------------------------------------


def test_a_removal_beats_what_the_removed_did_meanwhile():
    """§3.33: invitations, admissions, stops; whether they stand before the removal in canonical order or behind."""
    for depth in (0, 3):
        here, there = CROWD.copy(), CROWD.copy()
        for number in range(depth):
            say(here, BOB, RunPropose(manifest=bytes([number + 1])))
        say(here, ANN, remove(DAN))
        posted, seed = post(there, DAN)
        admitted = say(there, DAN, admission(there, EVE, posted, seed, by=DAN))
        state = merged(here, there)
        assert DAN.member_id in state.former
        assert posted not in state.invitations
        assert EVE.member_id not in state.members
        assert {posted, admitted.hash} <= state.refused.keys()


def test_a_removal_counts_nothing_that_is_backdated():
    """§3.33: the removed one writes, long after, as if it had not heard of it; also a second time in its chain."""
    log = CROWD.copy()
    before = log.copy()
    say(log, ANN, remove(DAN))
    for number in range(5):
        say(log, (ANN, BOB)[number % 2], RunPropose(manifest=bytes([number + 1])))
    forged = [
        force(before, DAN, remove(ANN)),
        force(before, DAN, role(BOB, "admin")),
        force(before, BOB, remove(CAT)),
        force(before, DAN, InvitePost(seed_public_key=secret("k"), role="admin", uses=9, expires_at=NOW)),
    ]
    state = merged(log, before)
    assert names(state) == ["ann", "bob", "cat"]
    assert [state.refused[operation.hash] for operation in forged] == ["senior-stays", "beaten", "beaten", "beaten"]
    assert state.members[BOB.member_id].role == "member"


def test_a_started_run_outlives_its_proposers_removal():
    """§3.33: what all are at work on goes on; but the removed one does not stop it any more."""
    for depth in (0, 3):
        here, there = CROWD.copy(), CROWD.copy()
        for number in range(depth):
            post(there, ANN, seed=secret("ahead", number))
        say(here, ANN, remove(BOB))
        run = RunId(say(there, BOB, RunPropose(manifest=b"m")).hash)
        started = start_of(run, BOB, CAT)
        say(there, BOB, RunStart(run=run, start=started))
        stop = say(there, BOB, RunStop(run=run, reason=""))
        state = merged(here, there)
        assert state.runs[run].start == started
        assert state.runs[run].stop is None
        assert state.refused[stop.hash] in ("beaten", "not-a-member")


def test_a_start_that_nobody_was_ready_for_is_backdated():
    """§3.33: the removed one alone, somebody's readiness for another run, or no notes at all."""
    for ready, of_another in ((BOB,), False), ((BOB, CAT), True), ((), False):
        here, there = CROWD.copy(), CROWD.copy()
        say(here, ANN, remove(BOB))
        run = RunId(say(there, BOB, RunPropose(manifest=b"m")).hash)
        start = start_of(RunId("0" * 64) if of_another else run, *ready) if ready else b"s"
        void = say(there, BOB, RunStart(run=run, start=start))
        state = merged(here, there)
        assert state.refused == {void.hash: "beaten"}
        assert state.runs[run].start is None


def test_a_demotion_beats_what_the_lesser_role_may_not():
    """§3.33: the invitation is void, and who came by it; what a member may do stands."""
    here, there = CROWD.copy(), CROWD.copy()
    say(here, ANN, role(DAN, "member"))
    posted, seed = post(there, DAN)
    proposed = say(there, DAN, RunPropose(manifest=b"m"))
    joined = say(there, BOB, admission(there, EVE, posted, seed, by=BOB))
    state = merged(here, there)
    assert posted not in state.invitations
    assert state.refused == {posted: state.refused[posted], joined.hash: "unknown-invitation"}
    assert proposed.hash in state.runs
    assert state.members[DAN.member_id].role == "member"


def test_of_two_admins_who_remove_each_other_the_senior_stays():
    """§3.35: Dan was admitted after Ann, whichever removal comes first in canonical order."""
    for ahead in (0, 3):
        here, there = CROWD.copy(), CROWD.copy()
        for number in range(ahead):
            say(here, BOB, RunPropose(manifest=bytes([number + 1])))
        say(here, ANN, remove(DAN))
        lost = say(there, DAN, remove(ANN))
        state = merged(here, there)
        assert names(state) == ["ann", "bob", "cat"]
        assert state.refused == {lost.hash: "senior-stays"}


def test_the_founder_stays_senior_whatever_is_said_of_its_role():
    """§3.35: nobody becomes its senior by making it what it is, nor by making it less and then the same again."""
    for roles in (("admin",), ("member", "admin")):
        log = CROWD.copy()
        for to in roles:
            say(log, DAN, role(ANN, to))
        here, there = log.copy(), log.copy()
        say(here, ANN, remove(DAN))
        say(there, DAN, remove(ANN))
        assert names(merged(here, there)) == ["ann", "bob", "cat"]


def test_a_role_that_one_has_already_rests_on_nobody_new():
    """§3.32: what Ann did as an admin is not void with whoever said once more that she is one."""
    log = CROWD.copy()
    say(log, ANN, role(BOB, "admin"))
    here, there = log.copy(), log.copy()
    say(here, DAN, role(BOB, "admin"))
    say(here, BOB, remove(CAT))
    say(there, ANN, remove(DAN))
    assert names(merged(here, there)) == ["ann", "bob"]


def test_in_a_circle_of_three_the_senior_stays():
    """§3.35: Ann removes Dan, Dan removes Eve, Eve removes Ann: Ann stays, and Eve, whom nobody removes then."""
    base = CROWD.copy()
    admit(base, EVE, role="admin")
    logs = [base.copy() for _ in range(3)]
    for log, who, whom in zip(logs, (ANN, DAN, EVE), (DAN, EVE, ANN), strict=True):
        say(log, who, remove(whom))
    state = merged(*logs)
    assert names(state) == ["ann", "bob", "cat", "eve"]
    assert sorted(state.refused.values()) == ["beaten", "senior-stays"]


def test_an_accomplices_power_falls_with_its_giver():
    """§3.32: Dan, removed, makes Bob an admin as if he had not heard, and Bob removes Ann."""
    here, there = CROWD.copy(), CROWD.copy()
    say(here, ANN, remove(DAN))
    say(there, DAN, role(BOB, "admin"))
    say(there, BOB, remove(ANN))
    state = merged(here, there)
    assert names(state) == ["ann", "bob", "cat"]
    assert state.members[BOB.member_id].role == "member"


def test_two_admins_may_have_the_same_thought():
    """§3.29: both removals count, so what the removed one did concurrently with either is void."""
    here, there = CROWD.copy(), CROWD.copy()
    say(here, ANN, remove(BOB))
    proposal = say(there, CAT, NodeBind(certificate=Person("cat-2", member="cat").certificate))
    say(there, DAN, remove(BOB))
    state = merged(here, there)
    assert not state.refused
    assert BOB.member_id in state.former
    assert proposal.hash not in state.refused


def test_nobody_is_back_by_an_admission_beside_the_removal():
    """§3.34: an accomplice admits Bob again, and binds him another node, as if it had not heard of the removal."""
    base = new_group()
    invite_id, seed = post(base, uses=5)
    say(base, ANN, admission(base, BOB, invite_id, seed))
    admit(base, CAT)
    here, there = base.copy(), base.copy()
    say(here, ANN, remove(BOB))
    again = [
        force(there, CAT, admission(there, BOB, invite_id, seed, by=CAT)),
        force(there, CAT, NodeBind(certificate=Person("bob-2", member="bob").certificate)),
    ]
    state = merged(here, there)
    assert names(state) == ["ann", "cat"]
    assert {state.refused[operation.hash] for operation in again} <= {"beaten", "already-bound"}


def test_a_ruling_that_does_not_stand_voids_nothing():
    """§3.32: Eve came by an invitation that another had used up, so that her removal of Dan counts for nothing."""
    base = CROWD.copy()
    invite_id = say(
        base, ANN, InvitePost(seed_public_key=seed_public_key(secret("s")), role="admin", uses=1, expires_at=NOW)
    ).hash
    seed = secret("s")
    here, there = base.copy(), base.copy()
    fay = Person("fay")
    one, other = (
        say(here, ANN, admission(here, EVE, invite_id, seed)),
        say(there, ANN, admission(there, fay, invite_id, seed)),
    )
    winner, loser, out = (here, there, fay) if one.hash < other.hash else (there, here, EVE)
    say(loser, out, remove(DAN))
    run = say(winner, DAN, RunPropose(manifest=b"m"))
    revoked = say(winner, DAN, InviteRevoke(invite_id=invite_id))
    state = merged(winner, loser)
    assert DAN.member_id in state.members
    assert run.hash in state.runs
    assert revoked.hash not in state.refused
