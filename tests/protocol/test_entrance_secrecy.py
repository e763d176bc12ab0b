"""What an entrance tells those who have no business there, and what it does with words of newer versions."""

import pytest
from entrance_helpers import host, joiner, talk, token
from group_helpers import ANN, BOB, CAT, DAN, EVE, GROUP_KEY, NOW, Person, admit, new_group, secret

from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.messages import Hello, Introduce
from protocol.entrance.outputs import Close, SendFrame
from protocol.errors import RemoteProtocolError
from protocol.group.log import GroupLog
from protocol.keys import GroupId, Hash
from protocol.wire import Wire, pack, pack_plain


def entrance(*logs: GroupLog, by: Person = ANN, peer: Person = BOB) -> EntranceHost:
    hosted = {log.group: Hosted(log, GROUP_KEY) for log in logs}
    return EntranceHost(hosted, by.key, peer=peer.node_id, nonce=bytes(32), ephemeral_secret=secret("e"))


def said_to(at: EntranceHost, message: Wire) -> bytes:
    """All that goes back for one message that ends the conversation."""
    outputs = at.receive(pack(message), now=NOW)
    assert isinstance(outputs[-1], Close)
    return b"".join(output.frame for output in outputs if isinstance(output, SendFrame))


@pytest.mark.parametrize("invite", ["", "0" * 64])
def test_who_has_no_invitation_does_not_learn_who_is_in_which_group(invite: str):
    """§4.21: one answer to the byte, at an admin's node, an observer's, and one that is not in the group."""
    log = new_group()
    admit(log, CAT, role="observer")
    hello = Hello(group=log.group, invite_id=Hash(invite), certificate=BOB.certificate)
    answers = {said_to(at, hello) for at in (entrance(log), entrance(), entrance(log, by=CAT))}
    assert len(answers) == 1
    assert log.state().name.encode() not in answers.pop()


def test_an_introduction_does_not_tell_it_either():
    """§4.21: where nothing is shown that the group would know."""
    log = new_group()
    message = Introduce(group=log.group, operations=(), last=True)
    answers = {said_to(at, message) for at in (entrance(log, peer=EVE), entrance(peer=EVE))}
    assert len(answers) == 1


def test_who_shows_a_good_invitation_is_told_how_it_stands():
    """§4.21: that is what keeps it usable for people."""
    log = new_group()
    assert talk(joiner(token(log)), host(log)).joined
    admit(log, CAT, role="observer")
    assert talk(joiner(token(log), DAN, at=CAT), host(log, by=CAT, peer=DAN)).turned_away == "not-admitting"


def test_a_message_of_an_unknown_kind_ends_the_conversation():
    """§11.6: a stranger's words are not overlooked, for they cost us."""
    with pytest.raises(RemoteProtocolError):
        entrance(GroupLog(GroupId("0" * 64))).receive(pack_plain({"type": "telepathy", "thought": 1}), now=NOW)
