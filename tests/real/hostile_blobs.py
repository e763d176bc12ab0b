"""What somebody without a token tries over TLS at a node's door, and what it gets (docs/protocol.md §13).

Each attack is a function of the scene that says in a word what came of it; `OVER_TLS` has the word expected. They are
waited for at once: the crowd is at beta's door, so that it is not what ends the others.
"""

import os
import socket
import ssl
from contextlib import ExitStack

from hostile_scene import Scene

from node.network.reach import host_and_port
from node.network.tls.certificate import calling_context

PATIENCE_S = 20.0  # a node has 15 s for who says nothing, and 3 s for who begins with TLS
FLOOD = 200  # connections


def _connect(scene: Scene, door: str = "") -> socket.socket:
    return socket.create_connection(host_and_port(door or scene.door), timeout=PATIENCE_S)


def _ends(connection: socket.socket) -> bool:
    """Whether the node hangs up, in time."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def _word(is_over: bool) -> str:
    return "hung up on" if is_over else "nothing"


def garbage_for_tls(scene: Scene) -> str:
    with _connect(scene) as connection:
        connection.sendall(os.urandom(4096))
        return _word(_ends(connection))


def half_a_hello(scene: Scene) -> str:
    with _connect(scene) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")
        return _word(_ends(connection))


def a_guessed_token(scene: Scene) -> str:
    with _connect(scene) as plain, calling_context().wrap_socket(plain) as connection:
        connection.sendall(os.urandom(32))
        return _word(_ends(connection))


def tls_without_a_token(scene: Scene) -> str:
    with _connect(scene) as plain, calling_context().wrap_socket(plain) as connection:
        return _word(_ends(connection))


def an_older_tls(scene: Scene) -> str:
    context = calling_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with _connect(scene) as plain:
        try:
            context.wrap_socket(plain).close()
        except OSError:
            return "hung up on"
    return "spoken to"


def many_silent_connections(scene: Scene) -> str:
    with ExitStack() as stack:
        connections = [stack.enter_context(_connect(scene, scene.door_of(scene.beta))) for _ in range(FLOOD)]
        return _word(all(map(_ends, connections)))


OVER_TLS = {
    garbage_for_tls: "hung up on",
    half_a_hello: "hung up on",
    a_guessed_token: "hung up on",
    tls_without_a_token: "hung up on",
    an_older_tls: "hung up on",
    many_silent_connections: "hung up on",
}
