"""Joiners whose admission does not count after all (docs/protocol.md §3.46)."""

from group_helpers import ANN, BOB, CAT, EVE, Person, add_all, admission, admit, force, new_group, post, say
from test_group_rulings import merged, names, remove, role, rotate
from test_group_state import refused_with

from protocol.group.log import GroupLog
from protocol.group.operation_kinds import InviteRevoke, MemberAdmit, MemberLeave, RunPropose
from protocol.group.operations import OpenOperation
from protocol.group.why_out import why_out
from protocol.keys import Hash
from protocol.limits import EPOCH_STEP

DAN, FAY = Person("dan"), Person("fay")
SEED = bytes([7]) * 32


def study() -> GroupLog:
    """Ann founded it; Bob and Cat are members, Dan an admin."""
    log = new_group()
    for person, its_role in ((BOB, "member"), (CAT, "member"), (DAN, "admin")):
        admit(log, person, role=its_role)
    return log


STUDY = study()


def redeemed_twice() -> tuple[GroupLog, GroupLog, Person, Person, Hash]:
    """A log of each side of a partition, who stays, who is out, and the admission of the latter."""
    base = STUDY.copy()
    invite_id, seed = post(base)
    here, there = base.copy(), base.copy()
    admissions = {
        say(here, BOB, admission(here, EVE, invite_id, seed, by=BOB)).hash: EVE,
        say(there, CAT, admission(there, FAY, invite_id, seed, by=CAT)).hash: FAY,
    }
    first, last = sorted(admissions)
    return here, there, admissions[first], admissions[last], last


def test_who_came_second_is_out_and_remembered():
    """§3.12, §3.46: who, with which nodes, by whose admission; the door is shut; and everybody agrees."""
    here, there, stays, out, admission_ = redeemed_twice()
    state = merged(here, there)
    assert names(state) == ["ann", "bob", "cat", "dan", stays.name]
    former = state.former[out.member_id]
    assert (former.void, former.operation, list(former.nodes)) == ("used-up", admission_, [out.node_id])
    assert former.by == (BOB if out is EVE else CAT).node_id
    assert not state.admits(out.node_id)
    reason = why_out(state, out.node_id)
    assert reason is not None
    assert reason.code == "used-up"
    assert "another joiner was admitted first with this invitation; ask for a new one" in reason.what


def test_the_keys_that_it_had_are_good_no_more():
    """§3.46, §5.10: also the group's first; one made after that is."""
    here, there, *_ = redeemed_twice()
    base = STUDY.copy()
    early = rotate(base, EPOCH_STEP, ANN, BOB)
    for side in (here, there):  # on which one somebody may hand it to who is out
        side = side.copy()
        say(side, ANN, early)
        assert side.state().good_epochs() == (EPOCH_STEP, 0)
        assert merged(here, there, side).good_epochs() == ()
        add_all(side, here)
        add_all(side, there)
        say(side, DAN, rotate(side, 2 * EPOCH_STEP))
        assert side.state().good_epochs() == (2 * EPOCH_STEP,)


def test_a_key_from_before_is_good_no_more():
    """§3.46, §5.10: both joiners were given it as they came in."""
    base = STUDY.copy()
    invite_id, seed = post(base)
    say(base, ANN, rotate(base, EPOCH_STEP))
    here, there = base.copy(), base.copy()
    say(here, BOB, admission(here, EVE, invite_id, seed, by=BOB))
    say(there, CAT, admission(there, FAY, invite_id, seed, by=CAT))
    assert here.state().good_epochs() == (EPOCH_STEP, 0)
    assert merged(here, there).good_epochs() == ()


def test_what_it_did_meanwhile_is_void():
    """§3.46"""
    here, there, _, out, _ = redeemed_twice()
    run = say(here if out is EVE else there, out, RunPropose(manifest=b"m"))
    state = merged(here, there)
    assert state.refused[run.hash] == "not-a-member"


def test_another_invitation_lets_it_in():
    """§3.46: it was not removed, so that the invitation need not be newer than anything."""
    base = STUDY.copy()
    spare, spare_seed = post(base, uses=2)
    invite_id, seed = post(base)
    here, there = base.copy(), base.copy()
    admissions = {
        say(here, BOB, admission(here, EVE, invite_id, seed, by=BOB)).hash: EVE,
        say(there, CAT, admission(there, FAY, invite_id, seed, by=CAT)).hash: FAY,
    }
    add_all(here, there)
    out = admissions[max(admissions)]
    assert out.member_id in here.state().former
    say(here, BOB, admission(here, out, spare, spare_seed, by=BOB))
    assert here.state().admits(out.node_id)
    assert not here.state().former


def test_other_reasons_why_an_admission_is_void_put_out_likewise():
    """§3.46: the invitation was revoked, its poster or the admitter made less, each without the other's knowing."""
    for number in range(8):
        for said, by, code in (
            (lambda log, invite_id: InviteRevoke(invite_id=invite_id), BOB, "revoked"),
            (lambda log, invite_id: role(DAN, "member"), BOB, "unknown-invitation"),
            (lambda log, invite_id: role(BOB, "observer"), BOB, "beaten"),
        ):
            here = STUDY.copy()
            invite_id, seed = post(here, ANN, seed=bytes([number] * 32))
            there = here.copy()
            say(here, ANN, said(here, invite_id))
            if code == "unknown-invitation":
                invite_id, seed = post(there, DAN)
            else:  # further down in canonical order than what is said beside it
                say(there, CAT, RunPropose(manifest=b"m"))
            void = say(there, by, admission(there, EVE, invite_id, seed, by=by))
            state = merged(here, there)
            assert state.refused[void.hash] == code
            assert state.former[EVE.member_id].void == code
            assert state.good_epochs() == ()
            reason = why_out(state, EVE.node_id)
            assert reason is not None
            assert reason.code == "admission-void"


def test_an_admission_that_nobody_wrote_in_good_faith_puts_nobody_out():
    """§3.46: by who is out, with an invitation that never was, or without the seed: else whoever was removed could make
    the group change its keys for ever."""
    log = STUDY.copy()
    invite_id, seed = post(log)
    say(log, ANN, admission(log, FAY, invite_id, seed))
    say(log, ANN, remove(CAT))
    say(log, ANN, rotate(log, EPOCH_STEP, ANN, BOB))
    assert log.state().good_epochs() == (EPOCH_STEP,)
    before = log.state()
    force(log, CAT, admission(log, EVE, invite_id, seed, by=CAT))
    force(log, BOB, admission(log, EVE, Hash("7" * 64), seed, by=BOB))
    force(log, BOB, admission(log, EVE, invite_id, bytes(32), by=BOB))
    state = log.state()
    assert list(state.refused.values())[-3:] == ["not-a-member", "unknown-invitation", "bad-proof"]
    assert (state.former, state.rotations) == (before.former, before.rotations)


def test_who_was_removed_is_not_forgotten_by_a_void_admission():
    """§3.36, §3.46: else it could come back by an old invitation."""
    log = STUDY.copy()
    old, old_seed = post(log, uses=5)
    say(log, ANN, admission(log, EVE, old, old_seed))
    say(log, ANN, remove(EVE))
    invite_id, seed = post(log)
    say(log, ANN, admission(log, FAY, invite_id, seed))
    force(log, BOB, admission(log, EVE, invite_id, seed, by=BOB))
    assert log.state().former[EVE.member_id].removed
    assert refused_with(log, BOB, admission(log, EVE, old, old_seed, by=BOB)) == "removed"


def displaced(*, uses: int = 1, builders: tuple[Person, ...] = ()) -> tuple[GroupLog, GroupLog, OpenOperation]:
    """Eve was let in long ago, and `builders` have written something since. Bob, as if he had not heard, lets Fay in:
    both sides, and what he says."""
    base = STUDY.copy()
    invite_id, seed = post(base, seed=SEED, uses=uses)
    here, there = base.copy(), base.copy()
    say(here, DAN, RunPropose(manifest=b"m"))
    say(here, CAT, admission(here, EVE, invite_id, seed, by=CAT))
    for person in builders:
        say(here, person, RunPropose(manifest=b"n"))
    late = say(there, BOB, admission(there, FAY, invite_id, seed, by=BOB))
    return here, there, late


def test_who_was_let_in_long_ago_is_not_displaced_by_what_is_dated_back():
    """§3.47: Ann and Dan, the admins, have gone on; either of them is not enough, and members do not matter."""
    for builders, stays in (((), FAY), ((ANN,), FAY), ((ANN, CAT, EVE), FAY), ((ANN, DAN), EVE)):
        here, there, late = displaced(builders=builders)
        state = merged(here, there)
        assert names(state) == ["ann", "bob", "cat", "dan", stays.name]
        if stays is EVE:
            assert state.refused[late.hash] == "used-up"
            assert state.former[FAY.member_id].void == "used-up"
            assert state.good_epochs() == ()


def test_it_is_decided_as_of_all_that_is_known():
    """§3.47: Fay is in until the second admin's word is heard; what is said by who knows of both says nothing."""
    here, there, _ = displaced(builders=(ANN,))
    both = here.copy()
    add_all(both, there)
    assert names(both.state())[-1] == "fay"
    say(both, DAN, RunPropose(manifest=b"too late"))
    assert names(both.state())[-1] == "fay"
    say(here, DAN, RunPropose(manifest=b"in time"))
    assert names(merged(here, there))[-1] == "eve"
    add_all(both, here)
    assert names(both.state())[-1] == "eve"
    assert both.state() == merged(both)
    force(there, DAN, RunPropose(manifest=b"for neither"))
    assert names(merged(both, there))[-1] == "fay"


def test_who_is_asked_were_admins_when_the_invitation_was_posted():
    """§3.47: nobody whom one of the two sides has made an admin since."""
    here, there, _ = displaced(builders=(ANN,))
    for number in range(3):
        puppet = Person(f"puppet-{number}")
        admit(here, puppet, role="admin")
        say(here, puppet, RunPropose(manifest=b"m"))
    assert names(merged(here, there))[-4:] == ["fay", "puppet-0", "puppet-1", "puppet-2"]


def test_an_invitation_for_several_protects_as_many():
    """§3.47: one use is left for who comes late in good faith; where there is none, whoever displaced Eve is void."""
    here, there, _ = displaced(uses=2, builders=(ANN, DAN))
    assert names(merged(here, there))[-2:] == ["fay", "eve"]
    here, there, late = displaced(uses=2, builders=(ANN, DAN))
    payload = late.payload
    assert isinstance(payload, MemberAdmit)
    say(there, BOB, admission(there, Person("gil"), payload.invite_id, SEED, by=BOB))
    assert names(merged(here, there))[-1] == "eve"


def test_what_follows_from_the_void_admission_is_void():
    """§3.47: Fay, whom the admission had made an admin, has removed people."""
    base = STUDY.copy()
    invite_id, seed = post(base, role="admin")
    here, there = base.copy(), base.copy()
    say(here, DAN, RunPropose(manifest=b"m"))
    say(here, CAT, admission(here, EVE, invite_id, seed, by=CAT))
    for person in (ANN, DAN):
        say(here, person, RunPropose(manifest=b"n"))
    say(there, BOB, admission(there, FAY, invite_id, seed, by=BOB))
    say(there, FAY, remove(ANN))
    state = merged(here, there)
    assert names(state) == ["ann", "bob", "cat", "dan", "eve"]


def test_a_rulings_past_is_judged_likewise():
    """§3.47: Eve, who stayed, leaves, beside what Cat says meanwhile."""
    here, there, _ = displaced(builders=(ANN, DAN))
    add_all(here, there)
    beside = here.copy()
    say(beside, CAT, RunPropose(manifest=b"meanwhile"))
    leaves = say(here, EVE, MemberLeave())
    beside.add(leaves.raw)
    assert leaves.hash not in beside.state().refused
    assert names(beside.state()) == ["ann", "bob", "cat", "dan"]
