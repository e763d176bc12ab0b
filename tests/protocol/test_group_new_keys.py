"""The group's key is made anew (docs/protocol.md §5.9 to §5.11)."""

from group_helpers import ANN, BOB, CAT, DAN, EVE, Person, add_all, admit, bind, say
from test_group_revocations import revoke
from test_group_rulings import merged, remove, rotate
from test_group_state import CROWD, refused_with

from protocol.group.key import commitment_of, open_sealed, sealed_for
from protocol.group.operation_kinds import KeyRotate, MemberLeave, RunPropose
from protocol.limits import EPOCH_STEP


def test_a_key_is_sealed_to_the_nodes_of_the_group():
    """§5.9, §5.7: each opens its own part; a stranger, a former member, or a part cut off, and it is void."""
    log = CROWD.copy()
    payload = rotate(log, EPOCH_STEP)
    say(log, DAN, payload)
    sealed = sealed_for(payload.sealed, BOB.node_id)
    assert sealed is not None
    key = open_sealed(BOB.seal_secret, sealed, log.group, EPOCH_STEP)
    assert commitment_of(key) == payload.commitment
    assert sealed_for(payload.sealed, EVE.node_id) is None
    assert refused_with(log, ANN, payload) == "bad-epoch"
    assert refused_with(log, ANN, rotate(log, 3 * EPOCH_STEP)) == "bad-epoch"
    cut = KeyRotate(epoch=2 * EPOCH_STEP, commitment=payload.commitment, sealed=payload.sealed[:-1])
    assert refused_with(log, ANN, cut) == "bad-keys"
    say(log, ANN, remove(BOB))
    assert refused_with(log, ANN, rotate(log, 2 * EPOCH_STEP, ANN, BOB)) == "not-of-the-group"
    twice = rotate(log, 2 * EPOCH_STEP, ANN)
    twice = twice.model_copy(update={"sealed": twice.sealed * 2})
    assert refused_with(log, ANN, twice) == "not-of-the-group"


def test_the_newest_key_counts_whose_recipients_are_all_in():
    """§5.10: of two made concurrently, the one that a member had who was removed meanwhile does not."""
    log = CROWD.copy()
    assert log.state().good_epochs() == (0,)
    say(log, ANN, remove(BOB))
    assert log.state().good_epochs() == ()
    here, there = log.copy(), log.copy()
    say(here, ANN, rotate(here, EPOCH_STEP + 1))
    say(there, DAN, rotate(there, EPOCH_STEP + 2))
    add_all(here, there)
    assert here.state().good_epochs() == (EPOCH_STEP + 2, EPOCH_STEP + 1)
    later = here.copy()
    say(later, ANN, remove(CAT))
    assert later.state().good_epochs() == ()
    say(here, DAN, rotate(here, 2 * EPOCH_STEP))
    state = merged(here, later)
    assert state.good_epochs() == ()
    say(later, ANN, rotate(later, 2 * EPOCH_STEP + 5))
    assert merged(here, later).good_epochs() == (2 * EPOCH_STEP + 5,)


def test_a_key_is_not_good_once_its_maker_or_whoever_came_later_is_out():
    """§5.10: neither is among those that it was sealed to, and both have it."""
    log = CROWD.copy()
    say(log, DAN, rotate(log, EPOCH_STEP, ANN, BOB, CAT))
    assert log.state().good_epochs() == (EPOCH_STEP, 0)
    made = log.copy()
    say(made, ANN, remove(DAN))
    assert made.state().good_epochs() == ()
    admit(log, EVE)
    say(log, ANN, remove(EVE))
    assert log.state().good_epochs() == ()


def test_a_key_is_not_good_once_a_node_that_has_it_is_revoked():
    """§5.10, §3.39"""
    log = CROWD.copy()
    second = Person("bob-2", member="bob")
    bind(log, second, by=BOB)
    say(log, ANN, rotate(log, EPOCH_STEP))
    say(log, BOB, revoke(second))
    assert log.state().good_epochs() == ()
    say(log, ANN, rotate(log, 2 * EPOCH_STEP))
    assert log.state().good_epochs() == (2 * EPOCH_STEP,)


def test_a_key_is_good_only_where_its_maker_knew_of_every_removal():
    """§5.10: Bob and Cat are removed, each without the other's knowing, and the new keys are sealed to Cat and to Bob;
    or a key is made by who has not even heard of somebody that was let in, handed the key, and put out."""
    for removed in range(2):
        here, there = CROWD.copy(), CROWD.copy()
        say(here, ANN, remove((BOB, CAT)[removed]))
        say(here, ANN, rotate(here, EPOCH_STEP + 1))
        say(there, DAN, remove((CAT, BOB)[removed]))
        say(there, DAN, rotate(there, EPOCH_STEP + 2))
        assert merged(here, there).good_epochs() == ()
        add_all(here, there)
        say(here, ANN, rotate(here, EPOCH_STEP + 3))
        assert here.state().good_epochs() == (EPOCH_STEP + 3,)
    here, there = CROWD.copy(), CROWD.copy()
    admit(here, EVE)
    say(here, ANN, remove(EVE))
    for number in range(5):
        say(there, DAN, RunPropose(manifest=bytes([number + 1])))
    say(there, DAN, rotate(there, EPOCH_STEP))  # after the removal in canonical order
    assert merged(here, there).good_epochs() == ()


def test_the_first_key_is_good_never_again_once_somebody_was_out():
    """§5.10: also when whoever left or was removed is back, and nobody is out any more: who came in meanwhile was given
    the key that counted then, and has no other."""
    for goes in (lambda log: say(log, ANN, remove(CAT)), lambda log: say(log, CAT, MemberLeave())):
        log = CROWD.copy()
        goes(log)
        say(log, ANN, rotate(log, EPOCH_STEP))
        admit(log, EVE)
        admit(log, CAT)
        assert not log.state().former
        assert log.state().good_epochs() == (EPOCH_STEP,)
