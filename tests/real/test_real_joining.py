"""Coming into a group over real sockets: tokens good and bad, an inviter who is away, strangers at both ports."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.ping import ID as PING
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12
from multiaddr import Multiaddr
from nodes import STOP_S, RealNode, check_nothing_stays_behind, real_nodes, wait_until

from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, ENTRANCE_PROTOCOL
from protocol.entrance.invitation import INVITATION_TAG, TokenBody, make_token
from protocol.signing import open_signed
from protocol.token_text import PAYLOAD_BYTES_MAX, token_payload, token_text

STRANGER_DEADLINE_S = 30.0
Tamper = Callable[[str], str]


class Street:
    """ann, who is in the group that she made, ben, who joined her by `token`, and eve, who is outside."""

    def __init__(self, nodes: list[RealNode]) -> None:
        self.ann, self.ben, self.eve = self.nodes = nodes
        self.group_id = self.ann.told("group", "create", "street")["group_id"]
        invited = self.ann.cli("invite")
        assert invited.returncode == 0, invited.stderr
        self.token = invited.stdout.strip()
        self.joined = self.ben.cli("join", self.token)


@pytest.fixture(scope="module")
def whole_street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    base = tmp_path_factory.mktemp("street")
    with real_nodes(base, "ann", "ben", "eve") as nodes:
        yield Street(nodes)


@pytest.fixture
def street(whole_street: Street) -> Iterator[Street]:
    yield whole_street
    for node in whole_street.nodes:
        if not node.is_running:
            node.start()
    check_nothing_stays_behind(whole_street.ann.home.parent, whole_street.nodes)


def members_seen_by(node: RealNode) -> set[str]:
    return {entry["name"] for group in node.client.groups()["groups"] for entry in group["members"]}


def node_ids_in(node: RealNode) -> set[str]:
    found = node.client.groups()["groups"]
    return {entry["node_id"] for group in found for member in group["members"] for entry in member["nodes"]}


def test_a_token_lets_one_in(street: Street) -> None:
    assert street.joined.returncode == 0, street.joined.stderr
    assert street.joined.stdout == "You are in street as member.\n"
    both = {street.ann.node_id, street.ben.node_id}
    for node, other in [(street.ann, "ben"), (street.ben, "ann")]:
        group = node.client.group("street")
        assert group["group_id"] == street.group_id
        assert node_ids_in(node) >= both
        wait_until(lambda node=node, other=other: other in node.connected_to(), f"{node.name} meets {other}")
    assert street.ann.client.group("street")["role"] == "admin"
    assert street.ben.client.group("street")["role"] == "member"


def test_one_who_is_in_is_told_so(street: Street) -> None:
    code, error = street.ben.refusal("join", street.token)
    assert (code, error["code"]) == (4, "already-in")


# --- tokens that are refused -----------------------------------------------------------------------------------
def _mistyped(token: str) -> str:
    middle = len(token) // 2
    return token[:middle] + ("b" if token[middle] == "a" else "a") + token[middle + 1 :]


def _altered(token: str) -> str:
    """What a man in the middle does who makes the checksum fit again but has no key to sign with."""
    payload = bytearray(token_payload(token))
    payload[payload.index(b"street")] ^= 1
    return token_text(bytes(payload))


def _of_another_signer(**changes: object) -> Tamper:
    """The token's content, changed, under somebody else's signature: good in form, so that only the group can tell."""

    def tamper(token: str) -> str:
        body = open_signed(TokenBody, token_payload(token), INVITATION_TAG, PAYLOAD_BYTES_MAX).body
        return make_token(Ed25519PrivateKey.generate(), body.model_copy(update=changes))

    return tamper


REFUSED = {
    "mistyped": (_mistyped, "mistyped", "was changed on its way"),
    "truncated": (lambda token: token[:-9], "truncated", "cut short"),
    "no token": (lambda token: "hello", "not-a-token", "This is no token"),
    "newer": (lambda token: token.replace("fednode1-", "fednode2-"), "newer-token", "version 2"),
    "altered": (_altered, "forged", "made or altered by somebody who may not"),
    "used up": (lambda token: token, "used-up", "used up"),
    "no such invitation": (_of_another_signer(invite=b"\7" * 32), "unknown-invitation", "invitation"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_token_is_refused_by_its_name(street: Street, kind: str) -> None:
    tamper, refusal, words = REFUSED[kind]
    code, error = street.eve.refusal("join", tamper(street.token))
    assert (code, error["code"]) == (4, refusal)
    assert words in error["what"]
    assert error["remedy"]
    assert street.eve.client.groups()["groups"] == []


def test_a_refusal_is_two_sentences_for_people(street: Street) -> None:
    done = street.eve.cli("join", "-", stdin=_mistyped(street.token))
    assert done.returncode == 4
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("Error: The token was changed on its way")
    assert second == "To fix: copy the whole token again from where it was printed."


def test_an_expired_token_is_refused_at_both_ends(street: Street) -> None:
    """The joiner's own clock tells it; where the token lies about its expiry, the admitter's does."""
    made = street.ann.told("invite", "--expires", "1s")
    over = datetime.fromisoformat(made["expires_at"]).timestamp() + 1
    wait_until(lambda: time.time() > over, "the invitation expires")
    for token in (made["token"], _of_another_signer(expires_at=int(over) + 3600)(made["token"])):
        code, error = street.eve.refusal("join", token)
        assert (code, error["code"]) == (4, "expired")
        assert " s ago, on " in error["what"]


def test_an_overheard_invitation_is_worth_nothing_without_its_seed(street: Street) -> None:
    made = street.ann.told("invite")
    code, error = street.eve.refusal("join", _of_another_signer(seed=b"\1" * 32)(made["token"]))
    assert (code, error["code"]) == (4, "bad-proof")


def test_a_token_that_lies_about_the_group_is_refused_by_the_joiner(street: Street) -> None:
    made = street.ann.told("invite")
    code, error = street.eve.refusal("join", _of_another_signer(group_name="the bank")(made["token"]))
    assert (code, error["code"]) == (4, "forged")
    assert street.eve.client.groups()["groups"] == []


# --- strangers -------------------------------------------------------------------------------------------------
def test_a_stranger_is_refused_in_the_handshake(street: Street) -> None:
    """A stock py-libp2p host: the members' port hangs up on it, and the entrance speaks one protocol with it."""
    status = street.ann.client.status()
    there = ID.from_base58(status["node_id"])

    async def knock() -> None:
        stranger = new_host(create_new_key_pair())
        with trio.fail_after(STRANGER_DEADLINE_S):
            async with stranger.run(listen_addrs=[]):
                with pytest.raises(SwarmException):
                    await stranger.connect(PeerInfo(there, [Multiaddr(status["addresses"][0])]))
                for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, PROTOCOL_ID_V12):
                    with pytest.raises(SwarmException):
                        await stranger.new_stream(there, [protocol])
            stranger = new_host(create_new_key_pair())
            async with stranger.run(listen_addrs=[]):
                await stranger.connect(PeerInfo(there, [Multiaddr(status["entrance_addresses"][0])]))
                for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, IDENTIFY, PING, PROTOCOL_ID_V12):
                    with pytest.raises(Exception, match="failed to open a stream"):
                        await stranger.new_stream(there, [protocol])
                stream = await stranger.new_stream(there, [ENTRANCE_PROTOCOL])
                await stream.write(b"\0\0\0\5hello")  # a frame, but no message

    trio.run(knock)
    after = street.ann.client.status()
    assert after["refused_at_door"] > status["refused_at_door"]
    assert after["stranger_bytes"] == 0
    assert after["peers_connected"] == status["peers_connected"]
    assert "stranger_bytes" in street.ann.client.prometheus()


# --- one who is away -------------------------------------------------------------------------------------------
def test_one_joins_while_the_inviter_is_off(street: Street) -> None:
    ann, _, eve = street.nodes
    heard = "ann has heard where ben's entrance is"
    wait_until(lambda: next(peer for peer in ann.client.peers()["peers"] if peer["name"] == "ben")["version"], heard)
    token = ann.told("invite")["token"]
    assert ann.end() < STOP_S
    entered = eve.told("join", token)
    assert (entered["name"], entered["admitted_by"]) == ("street", "ben")
    wait_until(lambda: "ben" in eve.connected_to(), "eve meets ben")
    ann.start()
    wait_until(lambda: eve.node_id in node_ids_in(ann), "ann hears of eve's admission")
    for node in street.nodes:
        wait_until(lambda node=node: len(node.connected_to()) == 2, f"{node.name} meets both others")
        assert len(node_ids_in(node)) == 3

    def logs() -> set[str]:
        return {str(node.client.group("street")["heads"]) for node in street.nodes}

    wait_until(lambda: len(logs()) == 1, "all hold the same log")
