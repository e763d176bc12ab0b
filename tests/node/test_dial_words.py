"""What dials in vain come to, in words, for a doctor and for whoever knocks with a token (docs/protocol.md §4)."""

import pytest

from node.network.dial_words import reason_of, tried_in_words

HERE, THERE = "/ip4/127.0.0.1/tcp/30408", "/ip4/192.0.2.7/tcp/4002"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[Errno 111] Error connecting to ('127.0.0.1', 30408)", "nobody listens at that port"),
        ("[Errno 111] Connection refused", "nobody listens at that port"),
        ("[Errno 113] Error connecting to ('192.0.2.7', 1)", "no way to its network"),
        ("[Errno -2] Name or service not known", "its name is not known"),
        ("""msg_bytes is not delimited by b"\\n": msg_bytes=b'TTP/1.1 400""", "something else than fednode answers"),
        ("no answer", "nothing comes back from there"),
    ],
)
def test_what_systems_and_libraries_say_is_put_in_words(said: str, words: str) -> None:
    reason = reason_of(said)
    assert reason is not None
    assert words in reason.words
    (told,) = tried_in_words([f"{HERE}: {said}"])
    assert told.startswith(f"{HERE}: ")
    assert words in told
    assert "Errno" not in told


def test_addresses_of_which_the_same_is_to_be_said_stand_together() -> None:
    refused = "[Errno 111] Error connecting"
    told = tried_in_words([f"{HERE}: {refused}", f"{THERE}: {refused}", f"{HERE}: quite unheard of", "it leads to us"])
    assert told[0].startswith(f"{HERE}, {THERE}: its machine answers")
    assert told[1:] == [f"{HERE}: quite unheard of", "it leads to us"]
