"""Who is out of a group, as the inbox tells it: out of real logs, and out of facts."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.api.inbox.gone import GONE_OF_A_GROUP_MAX, Gone, gone, gone_items
from protocol.group.admission import AdmissionStatement, prove, seed_public_key
from protocol.group.author import append, create_group
from protocol.group.key import seal_key_of
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import (
    InvitePost,
    MemberAdmit,
    MemberLeave,
    MemberRemove,
    NodeBind,
    NodeRevoke,
    Payload,
)
from protocol.group.operations import OpenOperation
from protocol.identity import make_certificate, make_revocation
from protocol.keys import Hash, MemberId, NodeId, member_id_of, node_id_of, public_key_of
from tracker.queries.inbox import LOOK_BACK_S

NOW = 1_800_000_000
SEED = bytes(range(32))


def secret(*words: str) -> bytes:
    return sha256(repr(words).encode()).digest()


@dataclass(frozen=True)
class Person:
    """A member's node. `member` names the owner where it has several."""

    name: str
    member: str = ""

    @cached_property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(secret("node", self.name))

    @cached_property
    def member_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(secret("member", self.member or self.name))

    @cached_property
    def node_id(self) -> NodeId:
        return node_id_of(public_key_of(self.key))

    @cached_property
    def certificate(self) -> bytes:
        return make_certificate(
            self.member_key,
            self.key,
            member_name=self.member or self.name,
            node_name=f"{self.name}-node",
            seal_key=seal_key_of(secret("seal", self.name)),
            issued_at=NOW,
        )


ANN, BOB, CAT, DAN = (Person(name) for name in ("ann", "bob", "cat", "dan"))
BOBS_SECOND = Person("laptop", "bob")


class Study:
    """A group that Ann founded. Everything is said a minute after what was said before it."""

    def __init__(self) -> None:
        self.log, _ = create_group(ANN.key, ANN.certificate, name="study", nonce=bytes(16), claimed_at=NOW)
        self._at = NOW

    def say(self, author: Person, payload: Payload, log: GroupLog | None = None) -> OpenOperation:
        self._at += 60
        return append(log or self.log, author.key, payload, claimed_at=self._at)

    def invite(self, uses: int = 1) -> Hash:
        posted = InvitePost(seed_public_key=seed_public_key(SEED), role="member", uses=uses, expires_at=NOW + 86_400)
        return self.say(ANN, posted).hash

    def admit(self, joiner: Person, invite_id: Hash, by: Person = ANN, log: GroupLog | None = None) -> None:
        nonce = secret("nonce", joiner.name)
        statement = AdmissionStatement(
            group=self.log.group,
            invite_id=invite_id,
            member_id=member_id_of(public_key_of(joiner.member_key)),
            node_id=joiner.node_id,
            admitter=by.node_id,
            nonce=nonce,
        )
        proof = prove(SEED, statement)
        payload = MemberAdmit(
            invite_id=invite_id, certificate=joiner.certificate, nonce=nonce, proof=proof, admitted_at=self._at
        )
        self.say(by, payload, log)

    def gone(self, me: Person) -> list[Gone]:
        return gone(self.log, self.log.state(), me.node_id)


@pytest.fixture
def study() -> Study:
    study = Study()
    for joiner in (BOB, CAT):
        study.admit(joiner, study.invite())
    return study


def member_of(person: Person) -> MemberId:
    return member_id_of(public_key_of(person.member_key))


def test_who_is_removed_and_who_leaves_is_told_to_those_who_stay(study: Study) -> None:
    study.say(ANN, MemberRemove(member=member_of(BOB), reason="left the hospital"))
    study.say(CAT, MemberLeave())
    removed, left = study.gone(ANN)
    assert (removed.how, removed.who, removed.by, removed.reason) == ("removed", "bob", "ann", "left the hospital")
    assert (left.how, left.who) == ("left", "cat")


def test_what_was_before_one_came_in_is_no_news(study: Study) -> None:
    study.say(ANN, MemberRemove(member=member_of(BOB), reason=""))
    study.admit(DAN, study.invite())
    assert study.gone(DAN) == []
    assert len(study.gone(CAT)) == 1


def test_who_is_removed_itself_is_told_so(study: Study) -> None:
    study.say(ANN, MemberRemove(member=member_of(BOB), reason="over"))
    (told,) = gone_items(study.gone(BOB), "g", "study", NOW)
    assert told["title"] == "You were removed from study"
    assert "ann has removed you: over." in told["text"]


def test_a_revoked_node_is_told_to_its_own_member_with_a_doubt(study: Study) -> None:
    study.say(BOB, NodeBind(certificate=BOBS_SECOND.certificate))
    revocation = make_revocation(BOB.member_key, BOBS_SECOND.node_id, issued_at=NOW)
    study.say(BOB, NodeRevoke(revocation=revocation))
    (others,) = gone_items(study.gone(ANN), "g", "study", NOW)
    assert (others["kind"], others["title"]) == ("revoked", "laptop-node, a node of bob, was revoked")
    (ours,) = gone_items(study.gone(BOB), "g", "study", NOW)
    assert ours["title"] == "Your node laptop-node was revoked in study"
    assert "somebody has your member's key" in ours["text"]
    assert ours["actions"] == ["group", "seen"]
    (itself,) = gone_items(study.gone(BOBS_SECOND), "g", "study", NOW)
    assert itself["title"] == "This node was revoked in study"
    assert itself["text"].startswith("bob-node, a node of its own member")


def test_who_is_put_out_because_an_invitation_was_used_twice_is_told(study: Study) -> None:
    invite_id = study.invite()
    elsewhere = GroupLog(study.log.group)
    for operation in study.log:
        elsewhere.add(operation.raw)
    study.admit(DAN, invite_id, by=BOB)
    study.admit(Person("eve"), invite_id, by=CAT, log=elsewhere)
    for operation in elsewhere:
        study.log.add(operation.raw)
    (out,) = study.gone(ANN)
    assert out.how == "put-out"
    assert out.who in ("dan", "eve")
    names = {member.name for member in study.log.state().members.values()}
    assert {"dan", "eve"} - names == {out.who}
    (told,) = gone_items([out], "g", "study", NOW)
    assert told["title"] == f"{out.who} is out of study: its invitation was used twice"
    assert "new invitation" in told["text"]


def test_of_many_the_newest_are_told_and_of_long_ago_none() -> None:
    many = [
        Gone(how="left", operation=Hash(f"{number:064x}"), who=f"m{number}", by=f"m{number}", at=NOW - number)
        for number in range(GONE_OF_A_GROUP_MAX + 5)
    ]
    told = gone_items(many, "g", "study", NOW)
    assert len(told) == GONE_OF_A_GROUP_MAX + 1
    assert told[-1]["title"] == "5 more are out of study"
    assert gone_items(many, "g", "study", NOW + LOOK_BACK_S + 60) == []
    assert len({each["id"] for each in told}) == len(told)


def test_what_a_rule_has_voided_is_no_news(study: Study) -> None:
    log = study.log
    raw = GroupLog(log.group)
    for operation in log:
        raw.add(operation.raw)
    study.say(ANN, MemberRemove(member=member_of(BOB), reason=""))
    study.say(BOB, MemberLeave(), raw)  # he does not know yet that he is out
    for operation in raw:
        log.add(operation.raw)
    assert [each.how for each in study.gone(CAT)] == ["removed"]
