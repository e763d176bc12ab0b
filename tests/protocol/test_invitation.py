"""Tokens: what they hold, how they are written, and how each thing that can go wrong is told (docs/protocol.md §4)."""

import textwrap

import pytest
from group_helpers import ANN, BOB, NOW, WEEK, Person, admit, new_group, secret
from hypothesis import given
from hypothesis import strategies as st

from protocol.entrance.invitation import INVITATION_TAG, TokenBody, invite, make_token, open_token
from protocol.errors import Refused
from protocol.fields import NodeAddresses
from protocol.group.admission import seed_public_key
from protocol.keys import Hash
from protocol.limits import TOKEN_CHARACTERS_MAX
from protocol.signing import sign
from protocol.token_text import INVITATION, PAYLOAD_BYTES_MAX, token_payload, token_text

SEED = secret("seed")
ENTRANCES = (NodeAddresses(node_id=ANN.node_id, entrance_addresses=("/ip4/192.0.2.7/tcp/4001",)),)
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def body(**changes: object) -> TokenBody:
    fields: dict[str, object] = {
        "group": bytes(range(32)),
        "group_name": "study",
        "invite": bytes(32),
        "seed": SEED,
        "role": "member",
        "uses": 1,
        "expires_at": NOW + WEEK,
        "entrances": ENTRANCES,
    }
    return TokenBody(**{**fields, **changes})


TOKEN = make_token(ANN.key, body())


def code_of(text: str, now: int = NOW) -> str:
    with pytest.raises(Refused) as caught:
        open_token(text, now=now)
    assert caught.value.what
    assert caught.value.remedy
    return caught.value.code


def test_a_token_says_all_that_a_joiner_needs():
    """§4.1: and the log gets the seed's public half only."""
    log = new_group()
    operation, token = invite(
        log, ANN.key, seed=SEED, role="observer", uses=3, expires_at=NOW + WEEK, entrances=ENTRANCES, now=NOW
    )
    opened = open_token(token, now=NOW)
    assert (opened.group, opened.group_name, opened.inviter) == (log.group, "study", ANN.node_id)
    assert (opened.invite_id, opened.seed, opened.role, opened.uses) == (operation.hash, SEED, "observer", 3)
    assert (opened.expires_at, opened.entrances) == (NOW + WEEK, ENTRANCES)
    entry = log.state().invitations[Hash(operation.hash)]
    assert entry.seed_public_key == seed_public_key(SEED)
    assert SEED not in operation.raw


def test_a_token_does_not_show_its_secret():
    """§4.1: whoever has the seed can join, so logs and tracebacks must not have it."""
    assert repr(SEED)[2:-1] not in repr(open_token(TOKEN, now=NOW))
    assert "seed" not in repr(open_token(TOKEN, now=NOW))


def test_only_an_admin_gets_a_token():
    """§3.5: a member hears so before anything is written."""
    log = new_group()
    admit(log, BOB)
    with pytest.raises(Refused, match="bob is a member of study"):
        invite(log, BOB.key, seed=SEED, role="member", uses=1, expires_at=NOW + WEEK, entrances=(), now=NOW)
    with pytest.raises(Refused, match="is past"):
        invite(log, ANN.key, seed=SEED, role="member", uses=1, expires_at=NOW, entrances=(), now=NOW)
    assert len(log) == 3


def test_a_token_is_short_enough_to_paste():
    """§4.2: one entrance, an ordinary name."""
    assert TOKEN.startswith("fednode1-")
    assert len(TOKEN) < 800
    assert set(TOKEN[len(INVITATION.prefix) :]) <= set(ALPHABET)


def test_entrances_that_make_it_too_long_are_left_out():
    """§4.1: they are hints; a node's first address stays longest, and the first nodes. Members' doors are no help."""
    addresses = tuple(f"/dns4/{'x' * 200}/tcp/{port}" for port in range(4000, 4010))
    many = tuple(NodeAddresses(node_id=Person(str(n)).node_id, entrance_addresses=addresses) for n in range(8))
    token = make_token(ANN.key, body(entrances=many))
    assert len(token) <= TOKEN_CHARACTERS_MAX
    kept = open_token(token, now=NOW).entrances
    assert [entrance.entrance_addresses for entrance in kept] == [addresses[: len(e.entrance_addresses)] for e in kept]
    assert [len(entrance.entrance_addresses) for entrance in kept] == [1] * 7
    one = NodeAddresses(node_id=ANN.node_id, addresses=addresses, entrance_addresses=addresses)
    (kept_one,) = open_token(make_token(ANN.key, body(entrances=(one,))), now=NOW).entrances
    assert kept_one.entrance_addresses == addresses[:9]
    assert kept_one.addresses == ()
    long_names = tuple(entrance.model_copy(update={"entrance_addresses": ("/dns4/" + "x" * 250,)}) for entrance in many)
    kept = open_token(make_token(ANN.key, body(entrances=long_names)), now=NOW).entrances
    assert kept == long_names[: len(kept)]
    assert 6 <= len(kept) < 8


@pytest.mark.parametrize(
    "pasted",
    [
        f"  {TOKEN}\n",
        "\r\n".join(textwrap.wrap(TOKEN, 72, break_on_hyphens=False)),
        "\n> ".join(textwrap.wrap(TOKEN, 60, break_on_hyphens=False)),
        f'"{TOKEN}"',
        f"`{TOKEN}`",
        f"<{TOKEN}>",
        f"“{TOKEN}”".replace("“", "'").replace("”", "'"),
        TOKEN[:100] + "\u200b" + TOKEN[100:300] + "\u00ad\u00a0" + TOKEN[300:],
        TOKEN.upper(),
    ],
    ids=range(9),
)
def test_wrapping_is_overlooked(pasted: str):
    """§4.2: line breaks, quotation marks, invisible spaces, capitals throughout."""
    assert open_token(pasted, now=NOW) == open_token(TOKEN, now=NOW)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-a-token"),
        ("hello", "not-a-token"),
        ("https://example.org/join", "not-a-token"),
        ("x" * 100_000, "not-a-token"),
        (TOKEN[8:], "not-a-token"),
        ("fednode0-" + TOKEN[9:], "not-a-token"),
        ("fednode01-" + TOKEN[9:], "not-a-token"),
        ("fednode2-" + TOKEN[9:], "newer-token"),
        ("fednode17-abc", "newer-token"),
        ("fednode", "truncated"),
        (INVITATION.prefix, "truncated"),
        (TOKEN[:12], "truncated"),
        (TOKEN[:-1], "truncated"),
        (TOKEN[: len(TOKEN) // 2], "truncated"),
        (TOKEN + "a", "mistyped"),
        (TOKEN + TOKEN, "mistyped"),
        (TOKEN[:40] + "1" + TOKEN[41:], "mistyped"),
        (TOKEN[:40] + "é" + TOKEN[41:], "mistyped"),
        (TOKEN[:40].upper() + TOKEN[40:], "mistyped"),
        (TOKEN[:40] + TOKEN[41] + TOKEN[40] + TOKEN[42:], "mistyped"),
    ],
    ids=range(20),
)
def test_each_fault_has_its_name(text: str, code: str):
    """§4.3: before anything is dialled."""
    assert code_of(text) == code


def test_a_newer_token_says_upgrade():
    """§4.3"""
    with pytest.raises(Refused, match="upgrade fednode"):
        open_token("fednode2-abc", now=NOW)


def test_expiry_is_told_with_its_date():
    """§4.3: to the second, by the joiner's clock."""
    assert open_token(TOKEN, now=NOW + WEEK)
    assert code_of(TOKEN, NOW + WEEK + 1) == "expired"
    with pytest.raises(Refused, match=r"expired 7 days ago, on 2027-01-22 08:00:00 UTC"):
        open_token(TOKEN, now=NOW + 2 * WEEK)
    with pytest.raises(Refused, match=r"expired 20 s ago, on .*08:00:00 UTC: by .* it is 2027-01-22 08:00:20 UTC"):
        open_token(TOKEN, now=NOW + WEEK + 20)


def test_a_forged_token_is_told_from_a_mistyped_one():
    """§4.3: its checksums are right, its signature or form is not."""
    raw = bytearray(token_payload(TOKEN))
    place = raw.index(b"study")
    raw[place] = ord("S")
    assert code_of(token_text(bytes(raw))) == "forged"
    assert code_of(token_text(b"")) == "forged"
    assert code_of(token_text(bytes(PAYLOAD_BYTES_MAX))) == "forged"
    assert code_of(token_text(sign(ANN.key, "presence", body()))) == "forged"
    for changes in ({"uses": 0}, {"seed": b"short"}, {"group_name": "a\nb"}, {"role": "owner"}):
        assert code_of(token_text(sign(ANN.key, INVITATION_TAG, body().model_copy(update=changes)))) == "forged"


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(ALPHABET + "0189-ABZ é%\x00"))
def test_every_changed_character_is_refused(place: int, character: str):
    """§4.3: a token that opens is the token that was made."""
    if character != TOKEN[place]:
        code_of(TOKEN[:place] + character + TOKEN[place + 1 :])


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 6))
def test_every_flipped_bit_is_refused(place: int, bit: int):
    """§4.3"""
    code_of(TOKEN[:place] + chr(ord(TOKEN[place]) ^ 1 << bit) + TOKEN[place + 1 :])


@given(st.integers(0, len(TOKEN) - 1))
def test_every_truncation_is_refused(length: int):
    """§4.3: and from the prefix's hyphen on it is called so."""
    assert code_of(TOKEN[:length]) == ("truncated" if length >= 4 else "not-a-token")


@given(st.integers(0, len(TOKEN) - 2), st.integers(1, 40))
def test_every_gap_is_refused(place: int, size: int):
    """§4.3: characters lost in the middle."""
    code_of(TOKEN[:place] + TOKEN[place + size :])


@given(st.binary(max_size=300))
def test_the_text_form_round_trips(payload: bytes):
    """§4.2"""
    text = token_text(payload)
    assert token_payload(text) == payload
    assert token_payload(text.upper()) == payload


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str):
    """§4.3: whatever is pasted, the answer is a refusal."""
    code_of(text)
    code_of(INVITATION.prefix + text)
