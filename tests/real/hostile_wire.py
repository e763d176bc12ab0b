"""A peer's end of the wire by hand, layer by layer, so that each can be broken: TCP, multistream, Noise, Yamux, frames.

Blocking sockets. Only the Noise cipher itself is a library's; what goes around it is made here, byte by byte.
"""

import socket
import struct
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from libp2p.security.noise.pb import noise_pb2
from noise.connection import Keypair, NoiseConnection

from node.network.addresses import host_and_port
from protocol.keys import public_key_of

PATIENCE_S = 15.0  # for a node that is flooded to answer
MULTISTREAM = "/multistream/1.0.0"
NOISE, YAMUX = "/noise", "/yamux/1.0.0"
GOSSIP_PROTOCOL = "/meshsub/1.2.0"
NOISE_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
NOISE_PLAIN_MAX = 65_519
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
PIECE = 32 * 1024


class Closed(Exception):
    """The node has ended the connection or the stream."""


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def line(text: str) -> bytes:
    """A line of multistream."""
    return varint(len(text) + 1) + text.encode() + b"\n"


def frame(body: bytes, length: int | None = None) -> bytes:
    """A frame of a stream, which may lie about its length."""
    return (len(body) if length is None else length).to_bytes(4, "big") + body


def identity_payload(claimed_key: bytes, signature: bytes, padding: int = 0) -> bytes:
    """What Noise's third message says of who we are: a public key and its signature under our static key."""
    extensions = noise_pb2.NoiseExtensions(webtransport_certhashes=[bytes(padding)]) if padding else None
    key = b"\x08\x01\x12\x20" + claimed_key
    return noise_pb2.NoiseHandshakePayload(
        identity_key=key, identity_sig=signature, extensions=extensions
    ).SerializeToString()


class Wire:
    """One TCP connection to a node."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_connection(host_and_port(address), timeout=PATIENCE_S)
        self._noise: NoiseConnection | None = None
        self._plain = bytearray()
        self.static = X25519PrivateKey.generate()
        self.node_payload = b""  # what the node said of itself in the handshake

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- bytes ---------------------------------------------------------------------------------------------------
    def tell(self, data: bytes) -> None:
        """Say `data`, under Noise once that is there. Raises Closed."""
        try:
            if self._noise is None:
                self.socket.sendall(data)
                return
            for start in range(0, len(data), NOISE_PLAIN_MAX):
                self._tell_packet(self._noise.encrypt(data[start : start + NOISE_PLAIN_MAX]))
        except OSError as error:
            raise Closed(str(error)) from None

    def _tell_packet(self, packet: bytes) -> None:
        self.socket.sendall(len(packet).to_bytes(2, "big") + packet)

    def hear(self, size: int, within_s: float = PATIENCE_S) -> bytes:
        """The next `size` bytes. Raises Closed, and TimeoutError when they do not come."""
        deadline = time.monotonic() + within_s
        while len(self._plain) < size:
            self._plain += self._next(deadline)
        heard = bytes(self._plain[:size])
        del self._plain[:size]
        return heard

    def _next(self, deadline: float) -> bytes:
        if self._noise is None:
            return self._raw(1, deadline)
        return bytes(self._noise.decrypt(self._packet(deadline)))

    def _packet(self, deadline: float) -> bytes:
        return self._raw(int.from_bytes(self._raw(2, deadline), "big"), deadline)

    def _raw(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                part = self.socket.recv(size - len(data))
            except TimeoutError:
                if data:  # half a packet: the rest is on its way
                    deadline = time.monotonic() + PATIENCE_S
                    continue
                raise
            except OSError as error:
                raise Closed(str(error)) from None
            finally:
                self.socket.settimeout(PATIENCE_S)
            if not part:
                raise Closed("the node hung up")
            data += part
        return bytes(data)

    def is_hung_up(self, within_s: float = PATIENCE_S) -> bool:
        """Whether the node hangs up; what it still says is thrown away."""
        deadline = time.monotonic() + within_s
        try:
            while True:
                self._raw(1, deadline)
        except Closed:
            return True
        except TimeoutError:
            return False

    # --- multistream and Noise -----------------------------------------------------------------------------------
    def hear_line(self) -> str:
        size = self.hear(1)[0]
        if size & 0x80:
            size = size & 0x7F | self.hear(1)[0] << 7
        return self.hear(size).decode().strip()

    def select(self, protocol: str) -> str:
        """Ask for `protocol`; the node's answer, which is the same or "na"."""
        self.tell(line(MULTISTREAM) + line(protocol))
        assert self.hear_line() == MULTISTREAM
        return self.hear_line()

    def begin_noise(self) -> NoiseConnection:
        """Up to where the node has proved its name and it is our turn."""
        assert self.select(NOISE) == NOISE
        state = NoiseConnection.from_name(NOISE_NAME)
        state.set_keypair_from_private_bytes(Keypair.STATIC, self.static.private_bytes_raw())
        state.set_as_initiator()
        state.start_handshake()
        self._tell_packet(state.write_message())
        deadline = time.monotonic() + PATIENCE_S
        self.node_payload = bytes(
            state.read_message(self._raw(int.from_bytes(self._raw(2, deadline), "big"), deadline))
        )
        return state

    def end_noise(self, state: NoiseConnection, payload: bytes) -> None:
        self._tell_packet(state.write_message(payload))
        self._noise = state

    def noise(self, key: Ed25519PrivateKey) -> None:
        """An honest handshake under `key`."""
        state = self.begin_noise()
        self.end_noise(state, identity_payload(public_key_of(key), self.signature_of(key)))

    def signature_of(self, key: Ed25519PrivateKey) -> bytes:
        return key.sign(b"noise-libp2p-static-key:" + self.static.public_key().public_bytes_raw())


class Muxed:
    """Yamux over a wire, without its manners. What the node opens is agreed to if its protocol is in `speaks`."""

    def __init__(self, wire: Wire, speaks: tuple[str, ...] = ()) -> None:
        self.wire = wire
        self.speaks = speaks
        self.streams: dict[int, RawStream] = {}
        self.opened_by_node: dict[str, RawStream] = {}
        self._next_id = 1

    @classmethod
    def dial(cls, address: str, key: Ed25519PrivateKey, speaks: tuple[str, ...] = ()) -> "Muxed":
        """Through the door or the entrance, as far as a muxer. Raises Closed when the node does not want us."""
        wire = Wire(address)
        try:
            wire.noise(key)
            assert wire.select(YAMUX) == YAMUX
        except TimeoutError:
            raise Closed("the node says nothing") from None
        return cls(wire, speaks)

    def __enter__(self) -> "Muxed":
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def header(self, kind: int, flags: int, stream: int, length: int, body: bytes = b"") -> None:
        self.wire.tell(struct.pack("!BBHII", 0, kind, flags, stream, length) + body)

    def new_stream(self) -> "RawStream":
        stream = self.streams[self._next_id] = RawStream(self, self._next_id)
        self._next_id += 2
        self.header(WINDOW, SYN, stream.number, 0)
        return stream

    def open(self, protocol: str) -> "RawStream":
        """A stream on which the node speaks `protocol`. Raises Closed when it does not."""
        stream = self.new_stream()
        stream.tell(line(MULTISTREAM) + line(protocol))
        assert stream.hear_line() == MULTISTREAM
        if stream.hear_line() != protocol:
            raise Closed(f"the node does not speak {protocol}")
        return stream

    def pump(self, within_s: float) -> bool:
        """Take in the node's next Yamux frame. False when none comes. Raises Closed."""
        try:
            head = self.wire.hear(12, within_s)
        except TimeoutError:
            return False
        _, kind, flags, number, length = struct.unpack("!BBHII", head)
        if kind == DATA:
            self._took(number, flags, self.wire.hear(length))
        elif kind == WINDOW:
            self._took(number, flags, b"")
        elif kind == PING and flags & SYN:
            self.header(PING, ACK, 0, length)
        elif kind == GO_AWAY:
            raise Closed("the node says goodbye")
        return True

    def _took(self, number: int, flags: int, data: bytes) -> None:
        if flags & SYN:
            self.streams[number] = RawStream(self, number, is_ours=False)
            self.header(WINDOW, ACK, number, 0)
        stream = self.streams.get(number)
        if stream is None:
            return
        if data:
            self.header(WINDOW, 0, number, len(data))
            stream.took(data)
        stream.is_over = stream.is_over or bool(flags & (FIN | RST))
        stream.is_reset = stream.is_reset or bool(flags & RST)

    def pump_until(self, condition: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
        """Take in what comes until `condition` holds; whether it did. Raises Closed."""
        deadline = time.monotonic() + within_s
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.pump(left)
        return True

    def is_hung_up(self, within_s: float = PATIENCE_S) -> bool:
        try:
            self.pump_until(lambda: False, within_s)
            return False
        except Closed:
            return True


class RawStream:
    """One stream of a muxed wire."""

    def __init__(self, muxed: Muxed, number: int, *, is_ours: bool = True) -> None:
        self._muxed = muxed
        self.number = number
        self._received = bytearray()
        self._negotiates = not is_ours
        self.is_over = self.is_reset = False

    def tell(self, data: bytes) -> None:
        """Say `data`, whatever the node's window is."""
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._muxed.header(DATA, 0, self.number, len(piece), piece)

    def end(self) -> None:
        self._muxed.header(DATA, FIN, self.number, 0)

    def took(self, data: bytes) -> None:
        self._received += data
        while self._negotiates and self._received and len(self._received) > self._received[0]:
            said = self.hear(self._received[0] + 1)[1:].decode().strip()
            if said == MULTISTREAM:
                self.tell(line(said))
            elif said in self._muxed.speaks:
                self._negotiates = False
                self._muxed.opened_by_node[said] = self
                self.tell(line(said))
            else:
                self.tell(line("na"))

    def hear(self, size: int, within_s: float = PATIENCE_S) -> bytes:
        """The next `size` bytes. Raises Closed, and TimeoutError when they do not come."""
        if not self._muxed.pump_until(lambda: len(self._received) >= size or self.is_over, within_s):
            raise TimeoutError(f"stream {self.number}: {size} bytes do not come")
        if len(self._received) < size:
            raise Closed("the node reset the stream" if self.is_reset else "the node closed the stream")
        heard = bytes(self._received[:size])
        del self._received[:size]
        return heard

    def hear_line(self) -> str:
        return self.hear(self.hear(1)[0]).decode().strip()

    def hear_frame(self, within_s: float = PATIENCE_S) -> bytes:
        return self.hear(int.from_bytes(self.hear(4, within_s), "big"))

    def heard(self) -> bytes:
        """What has come and was not taken out."""
        return bytes(self._received)

    def how_it_ends(self, within_s: float = PATIENCE_S) -> str:
        """ "reset" or "closed", as the node does it, "hung up on" with the connection, "nothing" when it does not."""
        try:
            if not self._muxed.pump_until(lambda: self.is_over, within_s):
                return "nothing"
        except Closed:
            return "hung up on"
        return "reset" if self.is_reset else "closed"
