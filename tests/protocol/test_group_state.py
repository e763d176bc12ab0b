"""The rules of a group, one by one (docs/protocol.md §3)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from group_helpers import (
    ANN,
    BOB,
    CAT,
    DAN,
    EVE,
    NOW,
    WEEK,
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

from protocol.errors import Refused
from protocol.group import rules as group_rules
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import (
    InvitePost,
    InviteRevoke,
    NodeBind,
    Payload,
    RunExtend,
    RunPropose,
    RunResume,
    RunStart,
    RunStop,
)
from protocol.group.state import Member, RunStopped
from protocol.keys import Hash, RunId

PROPOSAL = RunPropose(manifest=b"manifest")


def crowd() -> GroupLog:
    """Ann founded it; Bob is a member, Cat an observer, Dan an admin. Eve is a stranger."""
    log = new_group()
    for person, role in ((BOB, "member"), (CAT, "observer"), (DAN, "admin")):
        admit(log, person, role=role)
    return log


CROWD = crowd()
RUN = RunId(say(CROWD, BOB, PROPOSAL).hash)
INVITE, SEED = post(CROWD, uses=2)


def refused_with(log: GroupLog, author: Person, payload: Payload) -> str:
    """The code with which a rule voids `payload` of `author`, after checking that nothing but that happened.

    An author that keeps the rules hears the same, before anything is written."""
    log = log.copy()
    before = log.state()
    with pytest.raises(Refused) as caught:
        say(log, author, payload)
    operation = force(log, author, payload)
    after = log.state()
    assert {**before.refused, operation.hash: after.refused[operation.hash]} == after.refused
    assert (after.members, after.nodes, after.invitations, after.runs) == (
        before.members,
        before.nodes,
        before.invitations,
        before.runs,
    )
    assert after.refused[operation.hash] == caught.value.code
    return caught.value.code


def invitation(**changes: object) -> InvitePost:
    fields: dict[str, object] = {
        "seed_public_key": secret("some key"),
        "role": "member",
        "uses": 1,
        "expires_at": NOW + WEEK,
    }
    return InvitePost(**{**fields, **changes})


def test_the_founder_is_the_first_admin():
    """§3.4: with the names of its certificate; the time is what it claims."""
    state = new_group().state()
    assert state.name == "study"
    (grounds,) = [member.grounds for member in state.members.values()]
    assert {(ground.by, ground.needs) for ground in grounds} == {(ANN.member_id, "admin")}
    assert state.members == {ANN.member_id: Member("ann", "admin", NOW, (ANN.node_id,), ANN.node_id, grounds)}
    assert state.nodes[ANN.node_id].name == "ann-node"
    assert state.admits(ANN.node_id)
    assert not state.admits(BOB.node_id)


def test_an_admission_makes_a_member_with_the_invitations_role():
    """§3.6, §3.14: and uses the invitation up by one."""
    state = CROWD.state()
    assert [(member.name, member.role) for member in state.members.values()] == [
        ("ann", "admin"),
        ("bob", "member"),
        ("cat", "observer"),
        ("dan", "admin"),
    ]
    assert state.nodes[BOB.node_id].member_id == BOB.member_id
    assert [entry.used for entry in state.invitations.values()] == [1, 1, 1, 0]
    assert not state.refused


ROLE_TABLE: list[tuple[str, Callable[[GroupLog, Person], Payload], str, str, str]] = [
    # what, payload by author, and the code for member Bob, observer Cat, admin Dan ("" where it is allowed)
    ("§3.5 invite", lambda log, by: invitation(), "not-an-admin", "not-an-admin", ""),
    ("§3.5 revoke", lambda log, by: InviteRevoke(invite_id=INVITE), "not-an-admin", "not-an-admin", ""),
    ("§3.6 admit", lambda log, by: admission(log, EVE, INVITE, SEED, by=by), "", "not-admitting", ""),
    ("§3.7 bind Ann's", lambda log, by: NodeBind(certificate=ANN_2.certificate), "", "not-admitting", ""),
    ("§3.8 propose", lambda log, by: PROPOSAL, "", "not-proposing", ""),
    ("§3.22 start Bob's", lambda log, by: RunStart(run=RUN, start=b"s"), "", "not-the-proposer", "not-the-proposer"),
    ("§3.24 stop Bob's", lambda log, by: RunStop(run=RUN, reason="r"), "", "not-directing", ""),
    ("§3.24 extend Bob's", lambda log, by: RunExtend(run=RUN, rounds=5), "", "not-directing", ""),
    ("§3.24 resume Bob's", lambda log, by: RunResume(run=RUN, stop="", checkpoint=RUN), "", "not-directing", ""),
]
ANN_2 = Person("ann-2", member="ann")


@pytest.mark.parametrize(("payload", "member", "observer", "admin"), [row[1:] for row in ROLE_TABLE])
def test_what_each_role_may_do(payload: Callable[[GroupLog, Person], Payload], member: str, observer: str, admin: str):
    """§3.5, §3.6, §3.7, §3.8, §3.22, §3.24: the table of roles."""
    for person, code in ((BOB, member), (CAT, observer), (DAN, admin)):
        if code:
            assert refused_with(CROWD, person, payload(CROWD, person)) == code
        else:
            log = CROWD.copy()
            say(log, person, payload(log, person))
            assert log.state() != CROWD.state()


def test_whoever_lost_its_admission_has_no_say():
    """§3.3: Bob was admitted by an invitation that Cat had used up; then neither he nor whom he let in counts."""
    log = new_group()
    invite_id, seed = post(log)
    other = log.copy()
    say(log, ANN, admission(log, BOB, invite_id, seed))
    say(other, ANN, admission(other, CAT, invite_id, seed))
    winner, loser = (log, other) if log.heads() < other.heads() else (other, log)
    out = CAT if loser is other else BOB
    proposal = say(loser, out, PROPOSAL)
    add_all(winner, loser)
    state = winner.state()
    assert out.node_id not in state.nodes
    assert state.refused[proposal.hash] == "not-a-member"
    assert not state.runs
    with pytest.raises(Refused, match="belongs to no member"):
        group_rules.author_must_be_a_bound_node(state, EVE.node_id)


def test_invitations_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    """§3.9: used up, revoked and expired ones do not count."""
    monkeypatch.setattr(group_rules, "OUTSTANDING_INVITATIONS_MAX", 2)
    log = new_group()
    admit(log, BOB)
    say(log, ANN, invitation(expires_at=NOW))
    revoked, _ = post(log)
    say(log, ANN, InviteRevoke(invite_id=revoked))
    post(log)
    post(log)
    assert refused_with(log, ANN, invitation()) == "too-many-invitations"


@pytest.mark.parametrize(
    "changes",
    [
        {"group": Hash("0" * 64)},
        {"invite_id": Hash("0" * 64)},
        {"member_id": BOB.member_id},
        {"node_id": BOB.node_id},
        {"admitter": BOB.node_id},
        {"nonce": bytes(32)},
    ],
)
def test_a_proof_is_good_for_one_thing(changes: dict[str, object]):
    """§3.14: for this group, invitation, joiner, admitter and nonce."""
    assert refused_with(CROWD, ANN, admission(CROWD, EVE, INVITE, SEED, about=changes)) == "bad-proof"


def test_a_proof_needs_the_seed():
    """§3.14: whoever only saw the log cannot make one."""
    assert refused_with(CROWD, ANN, admission(CROWD, EVE, INVITE, secret("guess"))) == "bad-proof"


def test_an_overheard_proof_admits_nobody_else():
    """§3.14: Bob admits with the proof that was made for Ann."""
    assert refused_with(CROWD, BOB, admission(CROWD, EVE, INVITE, SEED, by=ANN)) == "bad-proof"


def test_an_invitation_must_exist():
    """§3.10: and a void one does not."""
    assert refused_with(CROWD, ANN, admission(CROWD, EVE, Hash("0" * 64), SEED)) == "unknown-invitation"
    log = CROWD.copy()
    void = force(log, BOB, invitation())
    assert refused_with(log, ANN, admission(log, EVE, void.hash, SEED)) == "unknown-invitation"
    assert refused_with(log, ANN, InviteRevoke(invite_id=void.hash)) == "unknown-invitation"


def test_a_revoked_invitation_admits_nobody():
    """§3.11: revoking twice is no fault."""
    log = CROWD.copy()
    say(log, DAN, InviteRevoke(invite_id=INVITE))
    say(log, ANN, InviteRevoke(invite_id=INVITE))
    assert log.state().invitations[INVITE].revoked
    assert refused_with(log, BOB, admission(log, EVE, INVITE, SEED, by=BOB)) == "revoked"


def test_of_too_many_admissions_the_earliest_count():
    """§3.12: two admitters, one use: both replicas agree who is in."""
    log = new_group()
    admit(log, BOB)
    invite_id, seed = post(log)
    other = log.copy()
    by_ann = say(log, ANN, admission(log, CAT, invite_id, seed, by=ANN))
    by_bob = say(other, BOB, admission(other, DAN, invite_id, seed, by=BOB))
    add_all(log, other)
    add_all(other, log)
    assert log.state() == other.state()
    state = log.state()
    assert state.refused == {max(by_ann.hash, by_bob.hash): "used-up"}
    assert (CAT.node_id in state.nodes) == (by_ann.hash < by_bob.hash)
    assert (DAN.node_id in state.nodes) == (by_bob.hash < by_ann.hash)
    assert state.invitations[invite_id].used == 1
    assert refused_with(log, ANN, admission(log, EVE, invite_id, seed)) == "used-up"


def test_expiry_compares_signed_values():
    """§3.13, §3.2: to the second, by what the admitter signed, however old the log is now."""
    late = admission(CROWD, EVE, INVITE, SEED, admitted_at=NOW + WEEK + 1)
    assert refused_with(CROWD, ANN, late) == "expired"
    log = CROWD.copy()
    say(log, ANN, admission(log, EVE, INVITE, SEED, admitted_at=NOW + WEEK), claimed_at=NOW + 50 * WEEK)
    assert log.state().members[EVE.member_id].admitted_at == NOW + WEEK


def test_a_joiner_admitted_twice_is_one_member_and_one_use():
    """§3.15: it was cut off, and tried again elsewhere; with another node too."""
    log = CROWD.copy()
    other = log.copy()
    eve_2 = Person("eve-2", member="eve")
    first = say(log, ANN, admission(log, EVE, INVITE, SEED, by=ANN))
    second = say(other, BOB, admission(other, EVE, INVITE, SEED, by=BOB))
    third = say(other, DAN, admission(other, eve_2, INVITE, SEED, by=DAN))
    add_all(log, other)
    state = log.state()
    assert set(state.members[EVE.member_id].nodes) == {EVE.node_id, eve_2.node_id}
    assert state.invitations[INVITE].used == 1
    assert state.refused == {max(first.hash, second.hash): "already-bound"}
    assert third.hash not in state.refused


def test_a_group_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """§3.16"""
    monkeypatch.setattr(group_rules, "GROUP_MEMBERS_MAX", 4)
    assert refused_with(CROWD, ANN, admission(CROWD, EVE, INVITE, SEED)) == "group-full"


def test_a_node_is_bound_to_a_member_only():
    """§3.17"""
    assert refused_with(CROWD, ANN, NodeBind(certificate=EVE.certificate)) == "not-a-member"


def test_a_member_brings_more_nodes_also_an_observer_its_own():
    """§3.7: a node of the same member may bind another."""
    log = CROWD.copy()
    cat_2 = Person("cat-2", member="cat")
    bind(log, cat_2, by=CAT)
    assert log.state().members[CAT.member_id].nodes == (CAT.node_id, cat_2.node_id)
    say(log, cat_2, NodeBind(certificate=Person("cat-3", member="cat").certificate))
    assert refused_with(log, cat_2, PROPOSAL) == "not-proposing"


def test_a_node_belongs_to_one_member_for_ever():
    """§3.18: Bob's own node, with its consent, cannot go over to Ann."""
    turncoat = Person("bob", member="ann", issued_at=NOW + 1)
    assert turncoat.node_id == BOB.node_id
    assert refused_with(CROWD, ANN, NodeBind(certificate=turncoat.certificate)) == "bound-to-another"
    stranger = Person("bob", member="eve")
    assert refused_with(CROWD, ANN, admission(CROWD, stranger, INVITE, SEED)) == "bound-to-another"


def test_only_newer_certificates_replace_older_ones():
    """§3.19: by the time of issue that the member signed."""
    assert refused_with(CROWD, BOB, NodeBind(certificate=BOB.certificate)) == "already-bound"
    older = Person("bob", issued_at=NOW - 1)
    assert refused_with(CROWD, BOB, NodeBind(certificate=older.certificate)) == "already-bound"
    log = CROWD.copy()
    newer = Person("bob", issued_at=NOW + 1)
    bind(log, newer, by=BOB)
    entry = CROWD.state().nodes[BOB.node_id]
    assert log.state().nodes[BOB.node_id] == replace(entry, issued_at=NOW + 1)
    assert log.state().members == CROWD.state().members


def test_a_members_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """§3.20"""
    monkeypatch.setattr(group_rules, "NODES_PER_MEMBER_MAX", 1)
    assert refused_with(CROWD, ANN, NodeBind(certificate=ANN_2.certificate)) == "too-many-nodes"


def test_a_run_is_named_by_its_proposal():
    """§3.21: and nothing is started or stopped that was not proposed."""
    entry = CROWD.state().runs[RUN]
    assert (entry.proposer, entry.proposer_member) == (BOB.node_id, BOB.member_id)
    assert (entry.manifest, entry.proposed_at, entry.start, entry.stop) == (b"manifest", NOW, None, None)
    nothing = RunId("0" * 64)
    assert refused_with(CROWD, ANN, RunStart(run=nothing, start=b"s")) == "no-such-run"
    assert refused_with(CROWD, ANN, RunStop(run=nothing, reason="")) == "no-such-run"


def test_only_the_proposing_node_starts():
    """§3.22: not even another node of the same member."""
    log = CROWD.copy()
    bob_2 = Person("bob-2", member="bob")
    bind(log, bob_2, by=BOB)
    assert refused_with(log, bob_2, RunStart(run=RUN, start=b"s")) == "not-the-proposer"
    say(log, BOB, RunStart(run=RUN, start=b"s"))
    assert (log.state().runs[RUN].start, log.state().runs[RUN].starter) == (b"s", BOB.node_id)


def test_only_the_first_start_counts():
    """§3.23: after it, and beside it by a fork of the proposer's."""
    log, other = CROWD.copy(), CROWD.copy()
    one, two = say(log, BOB, RunStart(run=RUN, start=b"one")), say(other, BOB, RunStart(run=RUN, start=b"two"))
    assert refused_with(log, BOB, RunStart(run=RUN, start=b"three")) == "already-started"
    add_all(log, other)
    add_all(other, log)
    assert log.state() == other.state()
    assert log.state().runs[RUN].start == (b"one" if one.hash < two.hash else b"two")
    assert log.state().refused == {max(one.hash, two.hash): "already-started"}


def test_a_run_is_stopped_by_its_proposers_member_or_an_admin():
    """§3.24, §3.25: once; a stop and a start beside each other both stand."""
    log = CROWD.copy()
    bob_2 = Person("bob-2", member="bob")
    bind(log, bob_2, by=BOB)
    other = log.copy()
    stop = say(log, bob_2, RunStop(run=RUN, reason="wrong data"))
    say(other, BOB, RunStart(run=RUN, start=b"s"))
    assert refused_with(log, DAN, RunStop(run=RUN, reason="me too")) == "already-stopped"
    add_all(log, other)
    entry = log.state().runs[RUN]
    assert entry.stop == RunStopped(bob_2.node_id, "wrong data", stop.hash)
    assert entry.start == b"s"
    stopped_first = CROWD.copy()
    say(stopped_first, DAN, RunStop(run=RUN, reason=""))
    say(stopped_first, BOB, RunStart(run=RUN, start=b"s"))
    assert stopped_first.state().runs[RUN].start == b"s"


def test_a_run_is_resumed_from_where_it_was_stopped():
    """§3.26: the stop that is named is lifted; one that the author had not seen stands; it may be stopped again."""
    log = CROWD.copy()
    other = log.copy()
    stop = say(log, BOB, RunStop(run=RUN, reason="wrong data"))
    here, there = "a" * 64, "b" * 64
    say(log, BOB, RunResume(run=RUN, stop=stop.hash, checkpoint=here))
    entry = log.state().runs[RUN]
    assert (entry.stop, entry.resumed) == (None, {here})
    say(other, DAN, RunStop(run=RUN, reason="not seen by Bob"))
    say(log, BOB, RunStop(run=RUN, reason="again"))
    say(log, DAN, RunResume(run=RUN, stop=stop.hash, checkpoint=there))
    entry = log.state().runs[RUN]
    assert (entry.stop and entry.stop.reason, entry.resumed) == ("again", {here, there})
    mine, theirs = log.copy(), other.copy()
    add_all(mine, other)
    add_all(theirs, log)
    assert mine.state().runs == theirs.state().runs


def test_the_furthest_extension_counts():
    """§3.27: in whatever order extensions come."""
    log = CROWD.copy()
    say(log, BOB, RunExtend(run=RUN, rounds=20))
    say(log, DAN, RunExtend(run=RUN, rounds=15))
    assert log.state().runs[RUN].rounds == 20
