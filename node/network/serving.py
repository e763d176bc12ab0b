"""How a stream that a peer has opened is answered: what goes wrong ends that stream, and no more than that."""

import logging
from collections.abc import Callable

from node.network.conduct import Fault
from node.seams import Stream, StreamHandler
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import NodeId

log = logging.getLogger("fednode.network")

Charge = Callable[[NodeId, Fault, str], None]  # told of a fault: whose, of which kind, what it did


async def answer(protocol: str, handler: StreamHandler, stream: Stream, charge: Charge) -> None:
    """Have `handler` answer, then close the stream. Its exceptions reset the stream and go no further."""
    try:
        await handler(stream)
    except FednodeError as error:
        log.info("a stream of %s from %s was reset: %s", protocol, stream.peer, error.what)
        if isinstance(error, RemoteProtocolError):
            charge(stream.peer, "malformed", error.what)
        await stream.reset()
    except Exception:
        log.exception("the handler of %s failed; the stream from %s is reset", protocol, stream.peer)
        await stream.reset()
    else:
        await stream.close()
