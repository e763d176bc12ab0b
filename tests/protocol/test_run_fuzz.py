"""Whatever a peer says, a run's machine neither raises nor does what only an honest peer may have done."""

from hypothesis import given, settings
from hypothesis import strategies as st
from run_world import IDS, RUN, World
from test_run_golden import notes, samples

from protocol.errors import RemoteProtocolError
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.events import Committed, Received
from protocol.run.messages import RunMessage, VotersChanged
from protocol.wire import Wire, hash_of, pack, unpack

_MESSAGES = [message for name, message in samples().items() if name != "start" and not name.endswith("-record")]
_PEERS = st.sampled_from([*IDS[:4], IDS[20]])
_NUMBERS = st.integers(0, 2**53)
_NOTES = st.sampled_from([*notes().values(), b"", b"junk"])


@st.composite
def _message(draw: st.DrawFn) -> Wire:
    """A message of any kind, with some of its fields replaced by others that fit their types."""
    message = draw(st.sampled_from(_MESSAGES))
    changes: dict[str, object] = {}
    for field, value in message:
        if field in ("kind", "run") or draw(st.booleans()):
            continue
        if isinstance(value, bool):
            changes[field] = draw(st.booleans())
        elif isinstance(value, int):
            changes[field] = draw(_NUMBERS) if "round" not in field else draw(st.integers(0, 10_000_000))
        elif isinstance(value, bytes):
            changes[field] = draw(_NOTES)
        elif field == "changes":
            changes[field] = tuple(VotersChanged(checkpoint=raw, acks=()) for raw in draw(st.lists(_NOTES, max_size=3)))
        elif isinstance(value, tuple):
            changes[field] = tuple(draw(st.lists(_NOTES, max_size=4)))
        elif field == "committed":
            changes[field] = hash_of(str(draw(_NUMBERS)).encode())
        elif isinstance(value, str):
            changes[field] = draw(st.text("RTUWLFXz", min_size=1, max_size=1))
    return message.model_copy(update=changes)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_PEERS, _message()), min_size=1, max_size=30), st.integers(0, 3))
def test_no_message_breaks_a_machine(said: list[tuple[str, Wire]], seconds: int) -> None:
    world = World(1, 4, rounds=5)
    world.run(float(seconds), until_ended=False)
    machine = world.nodes[0].machine
    assert machine is not None
    before = machine.ledger.committed
    for peer, message in said:
        outputs = machine.step(Received(peer, message), world.now)  # type: ignore[arg-type]
        assert not any(isinstance(output, Committed) for output in outputs)
    assert machine.ledger.committed == before


@given(st.binary(max_size=200))
def test_no_bytes_break_the_door(raw: bytes) -> None:
    try:
        unpack(RunMessage, raw, FRAME_BYTES_MAX)  # type: ignore[arg-type]
    except RemoteProtocolError:
        return


@given(st.data())
def test_bit_flips_of_real_messages_are_refused_or_harmless(data: st.DataObject) -> None:
    raw = bytearray(pack(data.draw(st.sampled_from(_MESSAGES))))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        message = unpack(RunMessage, bytes(raw), FRAME_BYTES_MAX)  # type: ignore[arg-type]
    except RemoteProtocolError:
        return
    world = World(1, 3, rounds=2)
    machine = world.nodes[0].machine
    assert machine is not None
    machine.step(Received(IDS[1], message), 0.0)
    assert message.run != RUN or machine.ledger.committed is None
