"""What two nodes say to each other when one of them does not know a protocol of the other: which versions they speak.

One frame each way, over the connection that there is, so that both ends can tell their people who should upgrade.
"""

import logging
from collections.abc import Callable

import trio
from libp2p.network.stream.net_stream import NetStream

from node.network.libp2p.host import Libp2pHost
from node.network.libp2p.stream import FrameStream
from node.network.versions import OtherVersion, Versions
from node.seams import VERSION_PROTOCOL, Stream
from protocol.errors import FednodeError
from protocol.limits import DIAL_DEADLINE_S
from protocol.version import VERSIONS_BYTES_MAX, read_versions, versions_text

log = logging.getLogger("fednode.network")


def serve_version(host: Libp2pHost, frames_of: Callable[[NetStream], FrameStream], versions: Versions) -> None:
    """Have `host` answer who asks which versions we speak, and note which the asker speaks."""

    async def answer(stream: Stream) -> None:
        with trio.move_on_after(DIAL_DEADLINE_S):
            theirs = read_versions(await stream.receive_frame(VERSIONS_BYTES_MAX))
            await stream.send_frame(versions_text(versions.ours))
            versions.note(stream.peer, theirs)

    host.serve(VERSION_PROTOCOL, answer, frames_of)


async def ask_version(stream: Stream, versions: Versions) -> OtherVersion | None:
    """Say what we speak and hear what the peer does, on a stream of VERSION_PROTOCOL. Set a deadline around it.

    Gives what keeps us apart, to be raised; None where that is not the version, or the peer gives no answer."""
    try:
        await stream.send_frame(versions_text(versions.ours))
        trouble = versions.note(stream.peer, read_versions(await stream.receive_frame(VERSIONS_BYTES_MAX)))
    except FednodeError as error:
        log.debug("%s does not say which versions it speaks: %s", stream.peer, error.what)
        return None
    finally:
        await stream.close()
    return OtherVersion(trouble[0], remedy=trouble[1]) if trouble else None
