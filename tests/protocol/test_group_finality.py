"""A removal on which others have built is not undone by who was removed (docs/protocol.md §3.43 to §3.45)."""

import pytest
from group_helpers import ANN, BOB, CAT, EVE, Person, add_all, admission, admit, bind, force, new_group, post, say
from test_group_revocations import revoke
from test_group_rulings import merged, names, remove, role

from protocol.group.log import GroupLog
from protocol.group.operation_kinds import RulingWitness, RunPropose

DAN, FAY, GIL = (Person(name) for name in ("dan", "fay", "gil"))
PUPPETS = [Person(f"puppet-{number}") for number in range(5)]


def admins(*people: Person, members: tuple[Person, ...] = ()) -> GroupLog:
    """Ann founded it and is its senior."""
    log = new_group()
    for person in people:
        admit(log, person, role="admin")
    for person in members:
        admit(log, person)
    return log


def admit_by(maker: Person, log: GroupLog, joiner: Person) -> None:
    """An admin makes somebody an admin by its own invitation."""
    invite_id, seed = post(log, maker, role="admin")
    say(log, maker, admission(log, joiner, invite_id, seed, by=maker))


def witness(log: GroupLog, *people: Person) -> None:
    for person in people:
        say(log, person, RulingWitness())


def test_a_removal_on_which_the_others_have_built_is_final():
    """§3.43: Dan removes Ann, who founded the group; she removes him as if she had not heard. One word more decides."""
    for ahead in (0, 3):
        base = admins(BOB, CAT, DAN)
        here, there = base.copy(), base.copy()
        removal = say(here, DAN, remove(ANN))
        for number in range(ahead):
            say(there, ANN, RunPropose(manifest=bytes([number + 1])))
        counter = say(there, ANN, remove(DAN))
        assert merged(here, there).refused[removal.hash] == "senior-stays"
        witness(here, BOB)  # Dan and Bob of Dan, Bob and Cat
        state = merged(here, there)
        assert names(state) == ["bob", "cat", "dan"]
        assert state.refused[counter.hash] == "beaten"
        for log in (here, there):  # what follows, now that everybody knows of both, changes nothing
            add_all(log, here if log is there else there)
        witness(here, BOB, CAT)
        assert names(merged(here, there)) == ["bob", "cat", "dan"]


def test_half_of_those_who_are_asked_are_no_majority():
    """§3.43"""
    base = admins(BOB, CAT, DAN, EVE)
    here, there = base.copy(), base.copy()
    say(here, DAN, remove(ANN))
    witness(here, BOB)
    say(there, ANN, remove(DAN))
    assert names(merged(here, there)) == ["ann", "bob", "cat", "eve"]
    witness(here, CAT)
    assert names(merged(here, there)) == ["bob", "cat", "dan", "eve"]


def test_who_has_built_on_both_is_for_neither():
    """§3.43: Bob bears witness to both; and where both are final the senior stays as ever."""
    base = admins(BOB, DAN)
    here, there = base.copy(), base.copy()
    say(here, DAN, remove(ANN))
    say(there, ANN, remove(DAN))
    witness(here, BOB)
    assert names(merged(here, there)) == ["bob", "dan"]
    force(there, BOB, RulingWitness())
    assert names(merged(here, there)) == ["ann", "bob"]
    base = admins(BOB, CAT, DAN)
    here, there = base.copy(), base.copy()
    say(here, DAN, remove(ANN))
    say(there, ANN, remove(DAN))
    witness(here, BOB)
    witness(there, CAT)
    assert names(merged(here, there)) == ["ann", "bob", "cat"]
    base = admins(BOB, DAN)
    here, there = base.copy(), base.copy()
    for person in (EVE, FAY):  # Dan himself said on their side that they are to be asked, too
        admit_by(DAN, there, person)
    say(there, ANN, remove(DAN))
    say(here, DAN, remove(ANN))
    witness(here, BOB)
    force(there, BOB, RulingWitness())
    assert ANN.member_id in merged(here, there).members


def test_what_is_written_after_both_decides_nothing():
    """§3.43: it rests on either ruling."""
    base = admins(BOB, CAT, DAN)
    here, there = base.copy(), base.copy()
    say(here, DAN, remove(ANN))
    say(there, ANN, remove(DAN))
    add_all(here, there)
    witness(here, BOB, CAT)
    assert names(here.state()) == ["ann", "bob", "cat"]


def test_puppets_of_a_private_fork_are_not_asked():
    """§3.44: Dan makes five admins where nobody sees it, and they build on his removal of Ann; with an accomplice who
    was an admin before, who makes them, as well."""
    for maker in (DAN, BOB):
        base = admins(BOB, CAT, DAN, FAY)
        here, there = base.copy(), base.copy()
        say(here, ANN, remove(DAN))
        for puppet in PUPPETS:
            admit_by(maker, there, puppet)
        say(there, DAN, remove(ANN))
        witness(there, *PUPPETS, BOB)
        state = merged(here, there)
        assert ANN.member_id in state.members
        assert DAN.member_id not in state.members


def test_who_is_put_out_in_a_private_fork_is_asked_all_the_same():
    """§3.44: Dan removes everybody but one accomplice before he removes Ann."""
    base = admins(BOB, CAT, DAN, FAY)
    here, there = base.copy(), base.copy()
    say(here, ANN, remove(DAN))
    for person in (CAT, FAY):
        say(there, DAN, remove(person))
    say(there, DAN, remove(ANN))
    witness(there, BOB)
    assert names(merged(here, there)) == ["ann", "bob", "cat", "fay"]


def test_whom_the_other_side_made_an_admin_is_asked_too():
    """§3.44: Ann backdates her counter-removal to when there were only Dan and her; but it was she who let Bob and Cat
    in, not Dan."""
    for maker, out in ((ANN, True), (DAN, False)):
        base = admins(DAN)
        before = base.copy()
        for person in (BOB, CAT):
            admit_by(maker, base, person)
        say(base, DAN, remove(ANN))
        witness(base, BOB)
        force(before, ANN, remove(DAN))
        state = merged(base, before)
        assert ("ann" not in names(state)) == out


def test_without_other_admins_the_members_are_asked():
    """§3.44: and not observers; where there is nobody but the author, the senior stays."""
    for its_role, out in (("member", True), ("observer", False)):
        base = admins(DAN)
        admit(base, BOB, role=its_role)
        here, there = base.copy(), base.copy()
        say(here, DAN, remove(ANN))
        witness(here, BOB)
        say(there, ANN, remove(DAN))
        assert ("ann" not in names(merged(here, there))) == out


def test_a_removed_senior_does_not_return_by_an_accomplice_it_makes():
    """§3.43: as if she had not heard of it, Ann makes Eve an admin, who removes Dan; Eve came before Dan."""
    base = admins(BOB)
    admit(base, EVE)
    for person in (CAT, DAN):
        admit(base, person, role="admin")
    here, there = base.copy(), base.copy()
    say(here, DAN, remove(ANN))
    witness(here, BOB)
    say(there, ANN, role(EVE, "admin"))
    say(there, EVE, remove(DAN))
    state = merged(here, there)
    assert names(state) == ["bob", "eve", "cat", "dan"]
    assert state.members[EVE.member_id].role == "member"


def test_a_demotion_and_a_revocation_become_final_too():
    """§3.43: Dan makes Ann a member; and the younger of two nodes of his revokes the older, which was stolen."""
    base = admins(BOB, CAT, DAN)
    here, there = base.copy(), base.copy()
    say(here, DAN, role(ANN, "member"))
    witness(here, BOB)
    say(there, ANN, remove(DAN))
    assert [member.role for member in merged(here, there).members.values()] == ["member", "admin", "admin", "admin"]
    base = admins(BOB, DAN, FAY)
    young = Person("dan-2", member="dan")
    bind(base, young, by=DAN)
    here, there = base.copy(), base.copy()
    say(here, young, revoke(DAN))
    witness(here, BOB)
    say(there, DAN, revoke(young))
    assert merged(here, there).members[DAN.member_id].nodes == (DAN.node_id,)
    witness(here, FAY)
    assert merged(here, there).members[DAN.member_id].nodes == (young.node_id,)


def test_a_past_is_judged_by_what_was_in_it():
    """§3.43: a ruling that rests on the first two and not on the witnesses is good or bad as things stood then."""
    base = admins(BOB, CAT, DAN)
    here, there = base.copy(), base.copy()
    say(here, DAN, remove(ANN))
    say(there, ANN, remove(DAN))
    both = here.copy()
    add_all(both, there)
    void = force(both, DAN, remove(CAT))  # Dan is out there: the senior stayed
    witness(here, BOB, CAT)
    state = merged(here, both, there)
    assert names(state) == ["bob", "cat", "dan"]
    assert state.refused[void.hash] == "not-a-member"


def test_those_who_are_asked_are_known():
    """§3.45: the other admins, until they have written something; and nobody about the removal of who is no admin."""
    log = admins(BOB, CAT, DAN, members=(EVE,))
    assert not any(log.asks(person.node_id) for person in (ANN, BOB, CAT, DAN, EVE))
    of_a_member = log.copy()
    say(of_a_member, DAN, remove(EVE))
    assert not of_a_member.asks(BOB.node_id)
    say(log, DAN, remove(ANN))
    assert [log.asks(person.node_id) for person in (ANN, BOB, CAT, DAN, EVE)] == [False, True, True, False, False]
    witness(log, BOB)
    assert [log.asks(person.node_id) for person in (BOB, CAT)] == [False, True]
    say(log, CAT, RunPropose(manifest=b"m"))
    assert not log.asks(CAT.node_id)
    few = admins(DAN, members=(EVE,))
    say(few, DAN, remove(ANN))
    assert few.asks(EVE.node_id)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_younger_nodes_revocation_of_an_older_one_is_witnessed(is_first: bool):
    """§3.45"""
    log = admins(BOB, DAN)
    young = Person("dan-2", member="dan")
    bind(log, young, by=DAN)
    say(log, DAN if is_first else young, revoke(young if is_first else DAN))
    assert log.asks(BOB.node_id) != is_first
