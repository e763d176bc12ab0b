"""One node of a member is out for good, and what holds where nobody knew of that (docs/protocol.md §3)."""

from itertools import count

from group_helpers import ANN, BOB, CAT, EVE, NOW, Person, admission, admit, bind, force, new_group, post, say
from test_group_rulings import merged, names, remove, role, start_of
from test_group_state import refused_with

from protocol.errors import RemoteProtocolError
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberProfile, NodeBind, NodeRevoke, RulingWitness, RunPropose, RunStart
from protocol.group.why_out import why_out
from protocol.identity import REVOCATION_TAG, NodeRevocation, make_revocation
from protocol.keys import RunId
from protocol.signing import sign

DAN, DAN_2, DAN_3 = Person("dan"), Person("dan-2", member="dan"), Person("dan-3", member="dan")


def revoke(node: Person, *, signed_by: Person | None = None) -> NodeRevoke:
    key = (signed_by or node).member_key
    return NodeRevoke(revocation=make_revocation(key, node.node_id, issued_at=NOW))


def study() -> GroupLog:
    """Ann founded it; Bob is a member, Cat an observer, Dan an admin with three nodes."""
    log = new_group()
    for person, its_role in ((BOB, "member"), (CAT, "observer"), (DAN, "admin")):
        admit(log, person, role=its_role)
    bind(log, DAN_2, by=DAN)
    bind(log, DAN_3, by=DAN)
    return log


STUDY = study()


# --- one after the other ---------------------------------------------------------------------------------------------


def test_a_revoked_node_is_out_and_its_member_is_not():
    """§3.37, §3.39: it is remembered who did it and when; the others of the member go on."""
    log = STUDY.copy()
    assert log.state().good_epochs() == (0,)
    revocation = say(log, DAN, revoke(DAN_2))
    state = log.state()
    assert names(state) == ["ann", "bob", "cat", "dan"]
    assert state.members[DAN.member_id].nodes == (DAN.node_id, DAN_3.node_id)
    assert not state.admits(DAN_2.node_id)
    assert state.admits(DAN_3.node_id)
    revoked = state.revoked[DAN_2.node_id]
    assert (revoked.operation, revoked.by, revoked.at) == (revocation.hash, DAN.node_id, NOW)
    assert revoked.was == STUDY.state().nodes[DAN_2.node_id]
    assert state.good_epochs() == ()
    assert refused_with(log, DAN_2, RunPropose(manifest=b"m")) == "not-a-member"
    reason = why_out(state, DAN_2.node_id)
    assert reason is not None
    assert reason.code == "revoked"
    assert "dan-2-node was revoked in study by dan-node on " in reason.what
    assert why_out(state, DAN.node_id) is None


def test_only_the_member_itself_revokes_its_nodes():
    """§3.37: an admin does not, nor the node itself, so that a last node stays; nor one that is not there."""
    assert refused_with(STUDY, ANN, revoke(DAN_2)) == "not-its-member"
    assert refused_with(STUDY, DAN_2, revoke(DAN_2)) == "revoking-itself"
    assert refused_with(STUDY, BOB, revoke(BOB)) == "revoking-itself"
    assert refused_with(STUDY, DAN, revoke(BOB, signed_by=DAN)) == "no-such-node"
    assert refused_with(STUDY, DAN, revoke(Person("dan-9", member="dan"))) == "no-such-node"
    log = STUDY.copy()
    say(log, DAN, revoke(DAN_2))
    assert refused_with(log, DAN_2, revoke(DAN)) == "not-a-member"


def test_a_revocation_without_the_members_key_enters_no_log():
    """§3.37: whoever has only a node of the member cannot make it."""
    log = STUDY.copy()
    body = NodeRevocation(member_id=DAN.member_id, node_id=DAN_2.node_id, issued_at=NOW)
    signed_by_dan = make_revocation(DAN.member_key, DAN_2.node_id, issued_at=NOW)
    for revocation in (sign(EVE.member_key, REVOCATION_TAG, body), signed_by_dan[:-1]):
        before = list(log)
        try:
            force(log, DAN, NodeRevoke(revocation=revocation))
        except RemoteProtocolError:
            assert list(log) == before
        else:
            raise AssertionError("it entered the log")


def test_a_revoked_node_is_never_bound_again():
    """§3.38: neither by a newer certificate, nor by an invitation, nor for another, nor after its member was out."""
    log = STUDY.copy()
    say(log, DAN, revoke(DAN_2))
    newer = Person("dan-2", member="dan", issued_at=NOW + 9)
    assert refused_with(log, DAN, NodeBind(certificate=newer.certificate)) == "revoked"
    assert refused_with(log, ANN, NodeBind(certificate=DAN_2.certificate)) == "revoked"
    stolen = Person("dan-2", member="ann", issued_at=NOW + 9)
    assert refused_with(log, ANN, NodeBind(certificate=stolen.certificate)) == "bound-to-another"
    say(log, ANN, remove(DAN))
    invite_id, seed = post(log)
    assert refused_with(log, ANN, admission(log, newer, invite_id, seed)) == "revoked"
    say(log, ANN, admission(log, DAN_3, invite_id, seed))
    assert refused_with(log, DAN_3, NodeBind(certificate=newer.certificate)) == "revoked"
    assert refused_with(log, ANN, admission(log, newer, *post(log))) == "revoked"


def test_what_the_node_did_before_stands():
    """§3.40: whom it admitted, and what it made of others."""
    log = STUDY.copy()
    admit(log, EVE, by=DAN_2)
    say(log, DAN_2, role(BOB, "observer"))
    say(log, DAN, revoke(DAN_2))
    assert names(log.state()) == ["ann", "bob", "cat", "dan", "eve"]
    assert log.state().members[BOB.member_id].role == "observer"
    assert not log.state().refused


# --- concurrently ----------------------------------------------------------------------------------------------------


def test_a_revocation_beats_what_the_node_did_meanwhile():
    """§3.40: whether it stands before the revocation in canonical order or behind; other nodes' acts are untouched."""
    for depth in (0, 3):
        here, there, beside = STUDY.copy(), STUDY.copy(), STUDY.copy()
        for number in range(depth):
            say(here, BOB, RunPropose(manifest=bytes([number + 1])))
        say(here, DAN, revoke(DAN_2))
        posted, seed = post(there, DAN_2)
        admitted = say(there, DAN_2, admission(there, EVE, posted, seed, by=DAN_2))
        changed = say(there, DAN_2, role(BOB, "admin"))
        say(beside, DAN_3, role(CAT, "member"))
        state = merged(here, there, beside)
        assert DAN_2.node_id in state.revoked
        assert posted not in state.invitations
        assert names(state) == ["ann", "bob", "cat", "dan"]
        assert [member.role for member in state.members.values()] == ["admin", "member", "member", "admin"]
        assert {posted, admitted.hash, changed.hash} == state.refused.keys()


def test_what_a_revoked_node_backdates_is_void():
    """§3.40, §3.41: it revokes the others of its member, and removes Ann, as if it had not heard."""
    log = STUDY.copy()
    before = log.copy()
    say(log, DAN, revoke(DAN_2))
    for number in range(5):
        say(log, BOB, RunPropose(manifest=bytes([number + 1])))
    forged = [force(before, DAN_2, payload) for payload in (revoke(DAN), remove(ANN), revoke(DAN_3))]
    state = merged(log, before)
    assert [state.refused[operation.hash] for operation in forged] == ["senior-stays", "beaten", "beaten"]
    assert state.members[DAN.member_id].nodes == (DAN.node_id, DAN_3.node_id)


def test_of_two_nodes_that_revoke_each_other_the_one_bound_first_stays():
    """§3.41: whichever comes first in canonical order."""
    for ahead in (0, 3):
        here, there = STUDY.copy(), STUDY.copy()
        for number in range(ahead):
            say(here, BOB, RunPropose(manifest=bytes([number + 1])))
        say(here, DAN_2, revoke(DAN_3))
        lost = say(there, DAN_3, revoke(DAN_2))
        state = merged(here, there)
        assert state.members[DAN.member_id].nodes == (DAN.node_id, DAN_2.node_id)
        assert state.refused == {lost.hash: "senior-stays"}


def test_a_node_bound_by_a_revoked_one_meanwhile_revokes_nobody():
    """§3.41: whoever has a stolen node makes another one with it, which revokes the member's first; or removes Ann."""
    for payload in (revoke(DAN), remove(ANN)):
        for number in range(30):
            here, there = STUDY.copy(), STUDY.copy()
            say(here, DAN, revoke(DAN_3))
            puppet = Person(f"dan-puppet-{number}", member="dan")
            bind(there, puppet, by=DAN_3)
            say(there, puppet, payload)
            state = merged(here, there)
            assert names(state) == ["ann", "bob", "cat", "dan"]
            assert state.members[DAN.member_id].nodes == (DAN.node_id, DAN_2.node_id)


def test_a_removal_of_the_member_beats_its_revocation():
    """§3.33: then all its nodes are out; and when it is let in again, none but the one that came in is."""
    here, there = STUDY.copy(), STUDY.copy()
    say(here, ANN, remove(DAN))
    revocation = say(there, DAN, revoke(DAN_2))
    state = merged(here, there)
    assert state.refused == {revocation.hash: "beaten"}
    assert DAN.member_id in state.former
    assert not any(state.admits(node.node_id) for node in (DAN, DAN_2, DAN_3))


def test_two_nodes_may_have_the_same_thought():
    """§3.41: both revocations count, so what the revoked one did concurrently with either is void."""
    here, there = STUDY.copy(), STUDY.copy()
    say(here, DAN, revoke(DAN_2))
    say(there, DAN_3, revoke(DAN_2))
    state = merged(here, there)
    assert not state.refused
    assert state.members[DAN.member_id].nodes == (DAN.node_id, DAN_3.node_id)


def test_a_run_outlives_the_revocation_of_its_proposers_node():
    """§3.40: with somebody else ready, the start stands; and without, it does not."""
    for depth, ready in ((0, True), (3, True), (0, False), (3, False)):
        here, there = STUDY.copy(), STUDY.copy()
        for number in range(depth):
            post(there, ANN, seed=bytes([number] * 32))
        say(here, DAN, revoke(DAN_2))
        run = RunId(say(there, DAN_2, RunPropose(manifest=b"m")).hash)
        started = start_of(run, DAN_2, BOB) if ready else start_of(run, DAN_2, DAN)
        void = say(there, DAN_2, RunStart(run=run, start=started))
        state = merged(here, there)
        assert state.runs[run].start == (started if ready else None)
        assert state.refused == ({} if ready else {void.hash: "beaten"})


def test_no_other_binding_brings_a_revoked_node_back():
    """§3.38: a newer certificate of it that somebody bound meanwhile, wherever it stands in canonical order."""
    for depth, number in zip((0, 3) * 4, count(1), strict=False):
        here, there = STUDY.copy(), STUDY.copy()
        for each in range(depth):
            say(here, BOB, RunPropose(manifest=bytes([each + 1])))
        say(here, DAN, revoke(DAN_2))
        newer = Person("dan-2", member="dan", issued_at=NOW + number)
        rebound = bind(there, newer, by=BOB)
        state = merged(here, there)
        assert not state.admits(DAN_2.node_id)
        assert rebound.hash in state.refused


# --- what a member says of itself, and that it has seen something ----------------------------------------------------


def test_a_member_says_who_it_is():
    """§3.42: the last word counts; an observer may say it, and a stranger not."""
    log = STUDY.copy()
    first = MemberProfile(name="Cat", organisation="St. Mary", contact="cat@example.org")
    say(log, CAT, first)
    member = log.state().members[CAT.member_id]
    assert (member.name, member.organisation, member.contact) == ("Cat", "St. Mary", "cat@example.org")
    assert (member.role, member.nodes) == ("observer", (CAT.node_id,))
    say(log, DAN_3, MemberProfile(name="Dan", organisation="", contact=""))
    say(log, DAN_2, MemberProfile(name="Daniel", organisation="Charité", contact=""))
    assert names(log.state()) == ["ann", "bob", "Cat", "Daniel"]
    say(log, ANN, remove(CAT))
    assert refused_with(log, CAT, first) == "not-a-member"


def test_a_witness_changes_nothing():
    """§3.45: and who is out is none."""
    log = STUDY.copy()
    before = log.state()
    say(log, CAT, RulingWitness())
    assert log.state() == before
    say(log, ANN, remove(CAT))
    assert refused_with(log, CAT, RulingWitness()) == "not-a-member"
