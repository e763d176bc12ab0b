"""Blobs on their way: what of them is shown where, and that nothing else moves for it."""

from tui_fakes import FakeClient, recorded, rounds_answer
from tui_stage import play, stage

from tui.facts.state import State
from tui.facts.transfers import UnderWay
from tui.views.transfer_rows import transfer_lines

MIDDLE = 110


def under_way(number=0, **given):
    told = {"blob": "ab" * 32, "kind": "update", "run_name": "digits-mlp", "direction": "in", "peer": "12D3icu"}
    told |= {"peer_name": "icu", "done_bytes": 25_000_000, "total_bytes": 100_000_000, "rate_bytes_per_s": 2.5e6}
    return told | {"left_s": 30.0 + number} | given


def lines(told, width=120, height=4):
    picture = transfer_lines([UnderWay.of(each) for each in told], width, height)
    return ["".join(span.text for span in line).rstrip() for line in picture.lines]


def test_a_line_says_what_goes_where_and_how_long_it_takes():
    (first, *empty) = lines([under_way()])
    assert first.startswith("▼ update from icu · digits-mlp")
    assert all(word in first for word in ("████░░", "25%", "30 s left", "2.5 MB/s", "25.0 MB of   100 MB"))
    assert not any(empty)
    out = lines([under_way(direction="out", kind="", left_s=None)])[0]
    assert out.startswith("▲ abababababab to icu")
    assert "left" not in out
    assert "25.0 MB given" in out, "and no share of what the taker may have of others"
    assert "%" not in out
    assert "from" not in lines([under_way(peer="", peer_name="")])[0], "from several"


def test_the_slowest_come_first_and_the_others_are_counted():
    told = [under_way(number, peer_name=f"node-{number}") for number in range(7)]
    shown = lines(told, height=4)
    assert [line.split()[3] for line in shown[:3]] == ["node-6", "node-5", "node-4"]
    assert shown[3].strip() == "and 4 more"
    (only,) = lines(told, width=80, height=1)
    assert "node-6" in only
    assert "+6" in only
    assert "left" in only


def test_nothing_that_a_node_tells_breaks_a_line():
    for odd in ({}, {"done_bytes": -5}, {"total_bytes": 0}, {"done_bytes": 9e99}, {"rate_bytes_per_s": "fast"}):
        assert lines([{**under_way(), **odd}] if odd else [{}])[0]


def test_what_is_told_counts_until_it_is_told_anew_or_the_node_is_gone():
    state = State()
    assert state.apply({"type": "transfers", "transfers": [under_way()]}, 0.0) >= {"transfers"}
    assert len(state.under_way) == 1
    state.apply({"type": "transfers", "transfers": []}, 0.0)
    assert state.under_way == ()
    state.apply({**recorded()[0], "transfers": [under_way(), under_way()]}, 0.0)
    assert len(state.under_way) == 2
    state.apply({"type": "bye"}, 0.0)
    assert state.under_way == ()


def test_the_log_alone_gives_room_for_it():
    async def scene():
        client = FakeClient(
            [*recorded()[:MIDDLE], {"type": "transfers", "transfers": [under_way(n) for n in range(3)]}],
            {"rounds": rounds_answer()},
        )
        for size, count in (((120, 36), 3), ((80, 24), 1)):
            async with stage(client, size) as on:
                await on.until(lambda: client.told == len(client.events_told))
                await on.settle()
                upper, lower = on.app.query_one("#upper").region, on.app.query_one("#lower").region
                assert on.text().count("update from icu") == count
                on.app._take({"type": "transfers", "transfers": []})
                await on.settle()
                assert "update from icu" not in on.text()
                assert (on.app.query_one("#upper").region, on.app.query_one("#tail").region) == (upper, lower)

    play(scene)
