"""What strangers try by being many: connections on which they stay and say nothing, and a flood of them.

As in hostile_strangers each attack says in a word what came of it.
"""

import os
import socket
import time
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_scene import Scene
from hostile_wire import MULTISTREAM, NOISE, Closed, Muxed, Wire, frame, line

from node.seams import ENTRANCE_PROTOCOL

SILENT_SOCKETS, DRIPPING_SOCKETS = 40, 20
JOIN_ATTEMPTS, ATTEMPTS_PER_S = 2000, 800
ENDLESS_LINES = 5000


def _stays(scene: Scene, *said: bytes, at: str = "", sockets: int = 1) -> str:
    """Connections to beta on which no more than `said` is said. They stay open beside all other attacks."""
    for _ in range(sockets):
        wire = Wire(at or scene.door_of(scene.beta))
        with suppress(Closed):
            wire.tell(b"".join(said))
        scene.hold(wire)
    return "waited for"


def silence(scene: Scene) -> str:
    return _stays(scene, sockets=SILENT_SOCKETS)


def half_a_line_of_multistream(scene: Scene) -> str:
    return _stays(scene, line(MULTISTREAM)[:3], sockets=DRIPPING_SOCKETS)


def half_a_message_of_noise(scene: Scene) -> str:
    return _stays(scene, line(MULTISTREAM) + line(NOISE) + b"\x00\x20\x01", sockets=DRIPPING_SOCKETS)


def garbage(scene: Scene) -> str:
    """Random bytes instead of multistream: most are the length of a line that never comes."""
    return _stays(scene, b"\xff\x7f" + os.urandom(4096))


def a_web_browser(scene: Scene) -> str:
    return _stays(scene, b"GET / HTTP/1.1\r\nHost: beta\r\n\r\n")


def endless_negotiation(scene: Scene) -> str:
    """One security protocol after the other that nobody knows."""
    return _stays(scene, line(MULTISTREAM) + line("/none/1") * ENDLESS_LINES)


def nothing_after_yamux(scene: Scene) -> str:
    """A muxer at the entrance, and no stream."""
    scene.hold(Muxed.dial(scene.entrance_of(scene.beta), Ed25519PrivateKey.generate()).wire)
    return "waited for"


def garbage_for_the_muxer(scene: Scene) -> str:
    """Yamux's frames of kinds that there are not."""
    muxed = Muxed.dial(scene.entrance_of(scene.beta), Ed25519PrivateKey.generate())
    muxed.wire.tell(b"\x07" * 12 * 100)
    scene.hold(muxed.wire)
    return "waited for"


def half_a_frame(scene: Scene) -> str:
    """At the entrance, a frame that says that it has a mebibyte, and has ten bytes."""
    muxed = Muxed.dial(scene.entrance_of(scene.beta), Ed25519PrivateKey.generate())
    muxed.open(ENTRANCE_PROTOCOL).tell(frame(bytes(10), 1024 * 1024))
    scene.hold(muxed.wire)
    return "waited for"


LOITERING = {
    garbage: "waited for",
    a_web_browser: "waited for",
    endless_negotiation: "waited for",
    nothing_after_yamux: "waited for",
    garbage_for_the_muxer: "waited for",
    half_a_frame: "waited for",
    half_a_line_of_multistream: "waited for",
    half_a_message_of_noise: "waited for",
    silence: "waited for",
}


def thousands_of_joiners(scene: Scene) -> str:
    """Connections at the entrance, 800 a second: each begins to negotiate, and makes way for the next."""
    refused = scene.alpha.client.status()["refused_at_door"]
    begun = time.monotonic()
    for number in range(JOIN_ATTEMPTS):
        with suppress(OSError), socket.create_connection(scene.entrance_socket, timeout=5) as attempt:
            attempt.sendall(line(MULTISTREAM))
        time.sleep(max(0.0, begun + number / ATTEMPTS_PER_S - time.monotonic()))
    turned_away = scene.alpha.client.status()["refused_at_door"] - refused
    return "turned away" if turned_away > JOIN_ATTEMPTS - 100 else f"only {turned_away} turned away"


FLOOD = {thousands_of_joiners: "turned away"}
