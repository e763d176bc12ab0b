"""The head that plays a tape, against what a reader with a watch and no memory would say."""

import random

import pytest
from tui_fakes import recorded

from tui.facts.state import State
from tui.feeds.tape import REWOUND, SPEEDS, Head, Moment, Tape

EVENTS = recorded()


def tape_of(events, seed):
    """The events at random times, the first at 0."""
    draw = random.Random(seed)
    times = [0.0, *sorted(round(draw.uniform(0, 100), 2) for _ in events[1:])]
    return Tape("t", [Moment(at, event) for at, event in zip(times, events, strict=True)], times[-1])


def facts(state):
    """All that a person could see of it, but for what is over in a moment."""
    curves = {run: {kind: each.of(kind) for kind in each.kinds()} for run, each in state.curves.items()}
    lines = [line.message for line in state.log.lines]
    return state.runs(), state.peers, state.groups, state.status, state.connection.state, curves, lines, state.names


def so_far(tape, position):
    state = State()
    for at, event in tape.moments:
        if at <= position:
            state.apply(event, 0.0)
    return facts(state)


@pytest.mark.parametrize("seed", range(12))
def test_wherever_the_head_goes_all_is_as_it_was_then(seed):
    draw = random.Random(seed)
    events = [*EVENTS, {"type": "bye"}, EVENTS[0], *EVENTS[20:60]] if seed % 3 == 0 else EVENTS
    tape = tape_of(events, seed)
    head, state = Head(tape), State()
    for event in head.advance(0.0):
        state.apply(event, 0.0)
    for _ in range(25):
        match draw.randrange(5):
            case 0:
                told = head.seek(draw.uniform(-5, 110))
            case 1:
                head.change_speed(draw.choice((-1, 1)))
                told = []
            case 2:
                head.is_held = not head.is_held
                told = head.advance(draw.uniform(0, 9))
            case _:
                told = head.advance(draw.uniform(0, 9))
        for event in told:
            state.apply(event, 0.0)
        assert facts(state) == so_far(tape, head.position)


def test_every_event_is_told_once_and_at_its_time():
    tape = tape_of(EVENTS, 1)
    head, told, passed = Head(tape, speed=2.0), [], 0.0
    while not head.is_ended:
        wait = head.until_next_s
        passed += wait
        fresh = head.advance(wait)
        assert len(told) + len(fresh) == sum(moment.at <= passed * 2 + 1e-6 for moment in tape.moments)
        told += fresh
    assert told == EVENTS
    assert head.until_next_s is None
    assert head.advance(10) == []


def test_held_still_nothing_happens():
    head = Head(tape_of(EVENTS, 1))
    head.is_held = True
    head.advance(0.0)
    assert head.advance(1_000) == []
    assert head.until_next_s is None
    assert head.position == 0.0


def test_speeds_have_an_end_above_and_below():
    head = Head(tape_of(EVENTS, 1), speed=3.0)
    head.change_speed(1)
    assert head.speed == 5.0
    head.change_speed(-1)
    assert head.speed == 2.0
    for _ in SPEEDS:
        head.change_speed(1)
    assert head.speed == SPEEDS[-1]
    for _ in SPEEDS:
        head.change_speed(-1)
    assert head.speed == SPEEDS[0]


def test_what_is_over_in_a_moment_is_not_told_again():
    head = Head(tape_of(EVENTS, 1))
    told = head.seek(1_000)
    assert told[0] is REWOUND
    assert not any(event["type"] in ("transfer", "note") for event in told)
    assert any(event["type"] == "transfer" for event in EVENTS)
    runs = [event["run"]["run_id"] for event in told if event["type"] == "run"]
    assert len(runs) == len(set(runs))


def test_twenty_steps_go_from_end_to_end():
    head = Head(tape_of(EVENTS, 1))
    for _ in range(20):
        assert not head.is_ended
        head.step(1)
    assert head.is_ended
    head.step(-1)
    assert head.position == pytest.approx(0.95 * head.tape.length_s)
