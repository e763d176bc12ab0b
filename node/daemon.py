"""The running node: its home, its real seams, its API, its beginning and its end.

It begins by holding the home's lock and ends within STOP_DEADLINE_S of being told to, in order wherever that is
possible: first the node says goodbye and everything durable is closed, then the socket goes, then the process.
"""

import json
import logging
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from node.api.http.api import serve_api
from node.api.service.service import NodeService
from node.cli.show import running_node
from node.home.home import LOG, RECORD, Home, Settings
from node.kept_memory import keep_memory
from node.logs.format import LogFormat, log_to_file_only, set_up_logging
from protocol.errors import FednodeError, Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from node.seams import Disk, Network

STOP_DEADLINE_S = 5.0  # from the signal to the end of the process; people wait no longer before they kill it
GOODBYE_DEADLINE_S = 2.0  # of that, for telling the others; what is durable needs the rest
EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 4, 130
_log = logging.getLogger("fednode.daemon")


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonOptions:
    """What `fednode start` was told. `link`: a device token, for a home that is new.

    `ready_fd`: where a waiting parent reads the outcome, as a line of JSON."""

    home: Path
    name: str | None = None
    member_name: str | None = None
    listen: str | None = None
    announce: Sequence[str] = ()
    mdns: bool | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    log_format: LogFormat = "text"
    json: bool = False
    debug: bool = False
    ready_fd: int | None = None
    passphrase: str | None = field(default=None, repr=False)
    link: str | None = field(default=None, repr=False)
    organisation: str | None = None
    contact: str | None = None


OpenNode = Callable[[Home, Settings], AbstractAsyncContextManager[NodeService]]


def run_daemon(options: DaemonOptions, open_node: OpenNode | None = None) -> int:
    """Run a node until it is stopped, and give the exit code. Prints where it is and what to do next.

    `open_node` gives the service for a home; by default the real node.
    """
    keep_memory()
    os.umask(0o077)  # whatever this process and its workers make is the owner's alone
    parent = None if options.ready_fd is None else _Parent(options.ready_fd)
    try:
        with Home(options.home, options.passphrase, links=options.link is not None) as home:
            set_up_logging(home.path / LOG, terminal=parent is None, log_format=options.log_format, debug=options.debug)
            settings = home.settings(
                name=options.name,
                member_name=options.member_name,
                listen=options.listen,
                announce=options.announce,
                mdns=options.mdns,
                limits=options.limits,
            )
            trio.run(_Daemon(options, home, settings, parent, open_node or real_node_opener(options)).run)
            return 0
    except KeyboardInterrupt:  # before anything listened for signals
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the process ends here; the log has the traceback
        return _failed(options, parent, _first(error))


class _Daemon:
    def __init__(
        self, options: DaemonOptions, home: Home, settings: Settings, parent: "_Parent | None", open_node: OpenNode
    ) -> None:
        self._options = options
        self._parent = parent
        self._home = home
        self._settings = settings
        self._open_node = open_node
        self._socket = home.socket()
        self._stopping = trio.Event()
        self._ready = False
        self._closed = False  # everything durable is

    async def run(self) -> None:
        async with trio.open_nursery() as everything:
            everything.start_soon(self._watch_signals, everything.cancel_scope)
            async with trio.open_nursery() as serving:
                async with self._open_node(self._home, self._settings) as service:
                    await serving.start(serve_api, service, self._socket, self._stopping)
                    self._report(await service.status())
                    self._ready = True
                    await self._stopping.wait()
                    _log.info("stopping")
                    self._end_anyway_in(STOP_DEADLINE_S)
                    with trio.move_on_after(GOODBYE_DEADLINE_S):
                        await service.stop()
                self._closed = True
                # The API ends by itself, once the last answers are out.
            everything.cancel_scope.cancel()
        _log.info("stopped")

    def _report(self, status: dict[str, Any]) -> None:
        """Say that the node is up: to the person, to the program, or to the parent that waits."""
        if self._parent is not None:
            self._parent.tell({"status": status})
        else:
            with suppress(OSError):  # nobody may read it, as behind `| head -1`
                print(json.dumps(status) if self._options.json else running_node(status), flush=True)  # noqa: T201
        _log.info("node %s is up at %s", status["node_id"], ", ".join(status["addresses"]) or "no address")

    async def _watch_signals(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                if self._stopping.is_set() or not self._ready:
                    everything.cancel()  # told twice, or before there was anything to stop in order
                self._stopping.set()

    def _end_anyway_in(self, seconds: float) -> None:
        """End the process then, whatever hangs: a reader of the API that stopped reading, a thread in a library."""

        def end() -> None:
            if not self._closed:
                _log.error("the node did not stop in order within %.0f s", seconds)
            with suppress(OSError):
                self._socket.unlink(missing_ok=True)
            logging.shutdown()
            os._exit(0 if self._closed else EXIT_FAILED)

        watchdog = threading.Timer(seconds, end)
        watchdog.daemon = True
        watchdog.start()


# --- the real node ---------------------------------------------------------------------------------------------
def real_node_opener(options: DaemonOptions) -> OpenNode:
    """What opens the real node, with what it was told for this start alone."""
    profile = (options.member_name, options.organisation, options.contact)
    if options.link is None and profile == (None, None, None):
        return open_real_node
    return partial(open_real_node, link=options.link, profile=profile)


@asynccontextmanager
async def open_real_node(
    home: Home,
    settings: Settings,
    *,
    link: str | None = None,
    profile: tuple[str | None, str | None, str | None] = (None, None, None),
) -> AsyncIterator[NodeService]:
    """The node of `home` on its real seams, running; it is closed, all durable, when the context ends.

    `link`: a device token, which makes it a node of the token's member first. `profile`: the member's name,
    organisation and contact, where they are to change.
    """
    # Here, for a refused start must not wait for libp2p: it takes seconds to import.
    from node.home.disk import FileDisk
    from node.network.bulk.pace import Pace
    from node.network.libp2p.network import open_network
    from node.network.rates import rate_of, size_of
    from node.node import Node
    from node.record.record import open_record
    from node.system.capacity import measure_capacity
    from node.system.metrics import system_watch
    from node.system.peer_watch import watch_peers
    from node.training.trainer import worker_trainer
    from node.training.worker_watch import watch_limits
    from tracker.blobs.quota import Quota

    limits = watch_limits(settings.worker_silence_s, settings.worker_hang_s)
    quota = Quota(size_of(settings.blobs_max))
    disk = FileDisk(home.path, quota=quota)
    record = await open_record(home.path / RECORD)
    try:
        async with (
            worker_trainer(home.path / "workers", limits) as trainer,
            open_network(home.key, [settings.listen]) as network,
            Node(
                key=home.key,
                member_key=await linked_key(home, settings, disk, network, link),
                seal_key=home.seal_key,
                vault=home.vault,
                name=settings.name,
                member_name=settings.member_name,
                network=network,
                disk=disk,
                trainer=trainer,
                record=record,
                random=random.SystemRandom(),
                version=our_version(),
                capacity=partial(measure_capacity, home.path),
                home=str(home.path),
                outside=settings.announce.split(),
                pace=Pace(rate_of(settings.up), rate_of(settings.down)),
                quota=quota,
            ) as node,
            trio.open_nursery() as nursery,
        ):
            disk.make_room = node.retention.make_room
            with recorded_in(node.log_handler()):
                nursery.start_soon(record.run)
                nursery.start_soon(system_watch(node, trainer, home.path, settings.system_interval_s).run)
                await nursery.start(node.run)
                nursery.start_soon(watch_peers, node)
                nursery.start_soon(node.retention.run)
                await node.profile.set(name=profile[0], organisation=profile[1], contact=profile[2])
                if settings.mdns == "on":
                    nursery.start_soon(node.live_on_local_network)
                yield node.service
                nursery.cancel_scope.cancel()
    finally:
        await record.close()
        disk.close()


async def linked_key(
    home: Home, settings: Settings, disk: "Disk", network: "Network", link: str | None
) -> "Ed25519PrivateKey | None":
    """The member's key that this node goes on with: none where the token `link` makes it another member's."""
    from node.home.identity import Keys
    from node.membership.linking import link_first

    keys = Keys(home.key, home.member_key, home.seal_key.private_bytes_raw(), home.vault)
    if link is None:
        return home.member_key
    return (await link_first(disk, network, keys, settings.name, link, int(time.time()))).member


@contextmanager
def recorded_in(handler: logging.Handler) -> Iterator[None]:
    """Give the node's own lines to `handler` too."""
    logger = logging.getLogger("fednode")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def our_version() -> str:
    try:
        return version_of("fednode")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+source"


# --- how it ended ----------------------------------------------------------------------------------------------
class _Parent:
    """The process that waits for the outcome of our start. It is told once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def tell(self, answer: dict[str, Any]) -> None:
        if self._descriptor is not None:
            with suppress(OSError), os.fdopen(self._descriptor, "wb") as pipe:
                pipe.write(json.dumps(answer).encode() + b"\n")
            self._descriptor = None


def _first(error: BaseException) -> BaseException:
    """The error to name: one that people can read, if there is any in the group."""
    if isinstance(error, BaseExceptionGroup):
        return _first((error.subgroup(FednodeError) or error).exceptions[0])
    return error


def _failed(options: DaemonOptions, parent: _Parent | None, error: BaseException) -> int:
    """Say why the node ended, and give the exit code."""
    if isinstance(error, FednodeError):
        what, remedy = error.what, error.remedy
    else:
        what, remedy = f"The node failed ({type(error).__name__}: {error})", f"see {options.home / LOG}, and report it"
    log_to_file_only()  # the terminal gets it below, once
    # What was refused is somebody's to mend, and no fault of ours: its sentence says all.
    _log.error("%s", what, exc_info=None if isinstance(error, Refused) else error)
    exit_code = EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED
    failure = {"error": {"code": getattr(error, "code", "failed"), "what": what, "remedy": remedy, "exit": exit_code}}
    if parent is not None:
        parent.tell(failure)
    else:
        print(json.dumps(failure) if options.json else f"Error: {what}.\nTo fix: {remedy}.", file=sys.stderr)  # noqa: T201
    if options.debug:
        traceback.print_exception(error)
    return exit_code
