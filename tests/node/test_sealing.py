"""Secrets on the disk: what opens them, what does not, and what a file that somebody else made can cost."""

import re

import pytest

from node.home.sealing import COST, SCRYPT_MEMORY_BYTES_MAX, Cost, Vault, is_sealed, open_under, seal_under
from protocol.errors import FednodeError, Refused

CHEAP = Cost(n=2**4, r=8, p=1)
WORDS = "correct horse battery"
SECRET = b"a private key " * 20


def sealed() -> bytes:
    return seal_under(WORDS, "key of a home", SECRET, CHEAP)


def test_the_passphrase_opens_it() -> None:
    assert open_under(WORDS, "key of a home", sealed(), "home.key") == SECRET
    assert SECRET not in sealed()


def test_two_of_one_secret_have_nothing_in_common() -> None:
    one, other = (text.decode().splitlines() for text in (sealed(), sealed()))
    assert one[3] != other[3]  # the salt
    assert one[6] != other[6]  # the body


@pytest.mark.parametrize("words", ["correct horse batterY", "correct horse battery ", "", "x" * 1000])
def test_another_passphrase_is_refused(words: str) -> None:
    with pytest.raises(Refused) as caught:
        open_under(words, "key of a home", sealed(), "home.key")
    assert caught.value.code == "wrong-passphrase"
    assert "home.key" in caught.value.what


def test_the_same_words_typed_elsewhere_open_it() -> None:
    """A letter with its accent is one character on one system and two on another."""
    text = seal_under("\u00e9t\u00e9 \u00e0 la mer", "backup of keys", SECRET, CHEAP)
    assert open_under("e\u0301te\u0301 a\u0300 la mer", "backup of keys", text, "it") == SECRET


def test_a_short_passphrase_is_not_set() -> None:
    with pytest.raises(Refused, match="11 characters"):
        seal_under("elevenchars", "key of a home", SECRET, CHEAP)


def test_no_line_of_it_can_be_changed() -> None:
    text = sealed().decode()
    changes = [
        text.replace("r=8", "r=4"),
        text.replace("p=1", "p=2"),
        re.sub("Salt: .", lambda found: "Salt: " + ("1" if found[0][-1] == "0" else "0"), text),
        text.replace("\n\n", "\n\nAAAA", 1),
    ]
    for changed in changes:
        assert changed != text
        with pytest.raises(FednodeError):
            open_under(WORDS, "key of a home", changed.encode(), "home.key")


def test_what_holds_one_thing_is_not_taken_for_another() -> None:
    with pytest.raises(FednodeError, match="no such text"):
        open_under(WORDS, "backup of keys", sealed(), "it")
    renamed = sealed().replace(b"Holds: key of a home", b"Holds: backup of keys")
    with pytest.raises(Refused) as caught:
        open_under(WORDS, "backup of keys", renamed, "it")
    assert caught.value.code == "wrong-passphrase"


@pytest.mark.parametrize(
    "wants",
    [
        f"N={2**30} r=8 p=1",  # 1 TiB
        f"N={2**19} r=8 p=1",  # 512 MiB, and 1 kB
        "N=2 r=9999 p=999",
        "N=16 r=8 p=5",
        "N=1000 r=8 p=1",  # no power of two
        "N=1 r=8 p=1",
        "N=99999999999 r=8 p=1",
        "N=-16 r=8 p=1",
    ],
)
def test_a_file_cannot_ask_for_more_than_we_give(wants: str) -> None:
    hostile = sealed().replace(b"N=16 r=8 p=1", wants.encode())
    with pytest.raises(FednodeError, match=r"more than is ever given|no such text"):
        open_under(WORDS, "key of a home", hostile, "home.key")


@pytest.mark.parametrize("numbers", [f"N={2**17} r=1 p=1", f"N={2**16} r=1 p=4"])
def test_numbers_that_do_not_go_together_are_said(numbers: str) -> None:
    """They are in the bounds, and scrypt has none such: the library takes it for a lack of memory."""
    with pytest.raises(FednodeError, match=r"home\.key cannot be opened: there is no memory"):
        open_under(WORDS, "key of a home", sealed().replace(b"N=16 r=8 p=1", numbers.encode()), "home.key")


def test_what_we_set_ourselves_is_in_the_bounds() -> None:
    assert COST.memory_bytes <= SCRYPT_MEMORY_BYTES_MAX
    assert COST.memory_bytes >= 128 * 1024**2  # what a guesser needs for each try


@pytest.mark.parametrize("raw", [b"", b"rubbish", b"\xff" * 100, b"-----BEGIN FEDNODE SECRET-----\n" * 50])
def test_what_is_no_such_text_is_said(raw: bytes) -> None:
    with pytest.raises(FednodeError, match=r"home\.key cannot be opened"):
        open_under(WORDS, "key of a home", raw, "home.key")


# --- files under the home's key --------------------------------------------------------------------------------
def test_a_file_is_opened_under_its_own_name_and_key_alone() -> None:
    vault = Vault(bytes(32))
    raw = vault.seal("node.key", SECRET)
    assert is_sealed(raw)
    assert SECRET not in raw
    assert vault.open("node.key", raw) == SECRET
    for opener, name in [(vault, "member.key"), (Vault(b"\1" * 32), "node.key")]:
        with pytest.raises(FednodeError, match="changed, or belongs to another home"):
            opener.open(name, raw)
    with pytest.raises(FednodeError, match=r"home\.key is gone"):
        Vault().open("node.key", raw)
    with pytest.raises(FednodeError, match="changed"):
        vault.open("node.key", raw[:20])


def test_without_a_key_files_lie_in_clear_and_are_read_in_clear() -> None:
    assert Vault().seal("node.key", SECRET) == SECRET
    assert Vault(bytes(32)).open("node.key", SECRET) == SECRET


def test_a_vault_does_not_print_its_key() -> None:
    assert "\\x01" not in repr(Vault(b"\1" * 32))
