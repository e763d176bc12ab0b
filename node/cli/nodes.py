"""fednode start, stop, status, peers."""

import time
from pathlib import Path
from typing import Any

import click

from fednode_client import ClientError
from fednode_endpoints import home_path
from node.cli import show
from node.cli.common import EXIT_FAILED, Answer, common_options
from node.cli.passphrases import handed_over, home_passphrase, passphrase_option
from node.cli.tokens import token_given

STOP_WAIT_S = 15.0  # three times what a node allows itself
STOP_POLL_S = 0.05
LIFELINE_GRACE_S = 8.0  # a node allows itself 5 s to stop in order


@click.command()
@click.option("--name", help="What others call this node. Remembered. [default: this machine's name]")
@click.option("--member-name", help="What others call you. Remembered. [default: your login name]")
@click.option("--organisation", help="Your organisation, as you say it to your groups. See fednode profile.")
@click.option("--contact", help="How others reach you, as you say it to your groups. See fednode profile.")
@click.option(
    "--link",
    metavar="TOKEN",
    help="On a new machine: make it one of your nodes, by the device token that fednode link prints on another. - "
    "reads it from standard input.",
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Where others reach this node: PORT, ADDRESS or ADDRESS:PORT. Remembered; strangers with an invitation knock "
    "at the next port. [default: all addresses, a free port]",
)
@click.option(
    "--announce",
    metavar="HOST[:PORT]",
    multiple=True,
    help="Where outsiders reach this node, when a router forwards PORT and the next one to it; a name is looked up "
    "when it is dialled. Remembered; none forgets it.",
)
@click.option(
    "--mdns/--no-mdns",
    default=None,
    help="Whether to find members, and be found, on the local network without their address. Remembered. "
    "[default: --mdns]",
)
@click.option(
    "--up",
    metavar="RATE",
    help="How fast models and updates may leave this node: bytes such as 2.5MB/s, or bits such as 20Mbit/s. "
    "Remembered; none lifts it. [default: none]",
)
@click.option("--down", metavar="RATE", help="How fast they may come. Remembered; none lifts it. [default: none]")
@click.option(
    "--blobs-max",
    metavar="SIZE",
    help="How much room models, updates and artifacts may take, such as 50G. Remembered; none lifts it, and leaves the "
    "disk 1 GB, or 5 % of it, in any case. [default: none]",
)
@click.option("--detach", is_flag=True, help="Run in the background, with the log in the node's folder.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@passphrase_option
@click.option("--passphrase-fd", type=int, hidden=True, help="A pipe that the passphrase comes through.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--lifeline-fd", type=int, hidden=True, help="A pipe: the node stops when its other end is closed.")
@common_options
@click.pass_obj
def start(
    answer: Answer,
    /,
    announce: tuple[str, ...],
    mdns: bool | None,
    detach: bool,
    log_format: str,
    ready_fd: int | None,
    lifeline_fd: int | None,
    passphrase_file: str | None,
    passphrase_fd: int | None,
    **remembered: str | None,
) -> int:
    """Start this machine's node.

    The first start makes the node's identity and the member's (yours), picks a port and remembers it. To make a further
    machine a node of yours, with all your groups: fednode link on this one, and --link on the other.
    """
    home = home_path(answer.home)
    if remembered["link"] is not None:
        remembered["link"] = token_given(remembered["link"])
    from node.home.home import LIMITS, listen_address, must_be_stopped

    limits = {key: text for key in LIMITS if (text := remembered[key]) is not None}
    for key, text in limits.items():
        LIMITS[key](text)  # refuses what it cannot read
    listen = listen_address(remembered["listen"]) if remembered["listen"] else None
    if passphrase_fd is None:
        must_be_stopped(home)  # before anybody types a passphrase in vain
    passphrase = handed_over(passphrase_fd) if passphrase_fd is not None else home_passphrase(home, passphrase_file)
    if detach:
        reached = [word for address in announce for word in ("--announce", address)]
        reached += [] if mdns is None else ["--mdns" if mdns else "--no-mdns"]
        return _start_detached(answer, home, log_format, remembered, passphrase, reached)
    if lifeline_fd is not None:  # before what takes seconds to import
        from node.lifeline import end_with

        end_with(lifeline_fd, LIFELINE_GRACE_S)
    from node.daemon import DaemonOptions, run_daemon

    return run_daemon(
        DaemonOptions(
            home=home,
            name=remembered["name"],
            member_name=remembered["member_name"],
            listen=listen,
            announce=announce,
            mdns=mdns,
            limits=limits,
            log_format="json" if log_format == "json" else "text",
            json=answer.json,
            debug=answer.debug,
            ready_fd=ready_fd,
            passphrase=passphrase,
            link=remembered["link"],
            organisation=remembered["organisation"],
            contact=remembered["contact"],
        )
    )


def _start_detached(
    answer: Answer,
    home: Path,
    log_format: str,
    remembered: dict[str, str | None],
    passphrase: str | None,
    reached: list[str],
) -> int:
    from node.detach import start_detached

    arguments = ["--home", str(home), "--log-format", log_format, *reached]
    for option, value in remembered.items():
        arguments += [f"--{option.replace('_', '-')}", value] if value else []
    arguments += ["--debug"] if answer.debug else []
    told = start_detached(home, arguments, passphrase)
    if "status" in told:
        answer.give(told["status"], lambda: show.running_node(told["status"]))
        return 0
    error = told["error"]
    failure = ClientError(error["what"], remedy=error["remedy"])
    failure.code = error["code"]
    answer.fail(failure)
    return int(error.get("exit", EXIT_FAILED))


@click.command()
@common_options
@click.pass_obj
def stop(answer: Answer) -> None:
    """Stop the node in good order, and wait until it has ended."""
    client = answer.client()
    client.stop()
    _wait_for_end(client.home)
    answer.give({"stopped": True}, "The node has stopped.")


def _wait_for_end(home: Path) -> None:
    """Until nobody holds the home's lock. The kernel lets go of it when the process ends, so this cannot be missed."""
    import fcntl

    deadline = time.monotonic() + STOP_WAIT_S
    with (home / "node.lock").open() as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise ClientError(
                        "The node was told to stop and has not ended", remedy=f"see {home / 'node.log'}"
                    ) from None
            time.sleep(STOP_POLL_S)


@click.command()
@common_options
@click.pass_obj
def status(answer: Answer) -> None:
    """Show who the node is, where it is, and what it does."""
    told = answer.client().status()
    answer.give(told, lambda: show.running_node(told))


@click.command()
@common_options
@click.pass_obj
def peers(answer: Answer) -> None:
    """List the nodes of your groups, this one first.

    BLOBS BY says how the last models and updates came from a node: over TLS, or slowly over libp2p where no address of
    it could be reached directly; nothing before the first ones.
    """
    found = answer.client().peers()["peers"]
    if answer.json:
        answer.give(found, "")
        return
    show.table(
        ["NAME", "NODE", "STATE", "LAST SEEN", "CORES", "MEMORY", "GPUS", "RUNS", "BLOBS BY"],
        [_row(peer) for peer in found],
    )
    for peer in found:
        if peer.get("trouble"):
            answer.hint(f"{peer['name']}: {peer['trouble']}")
        elif (peer.get("link") or {}).get("blobs_by") == "libp2p":
            answer.hint(f"{peer['name']}: its blobs come over libp2p, slowly: TLS to none of its addresses succeeds")
    if len(found) == 1:
        answer.hint("Nobody else yet. Let somebody in: fednode invite")


def _row(peer: dict[str, Any]) -> list[object]:
    capacity = peer.get("capacity") or {}
    state = "this node" if peer["self"] else ("connected" if peer["connected"] else "away")
    return [
        peer["name"],
        show.node(peer["node_id"]),
        state,
        "now" if peer["connected"] else show.moment(peer.get("last_seen")),
        capacity.get("cpu_cores"),
        show.size(capacity.get("memory_bytes")),
        len(capacity.get("gpus") or ()) or "",
        len(peer.get("runs") or ()) or "",
        {"tls": "TLS", "libp2p": "libp2p, slow"}.get((peer.get("link") or {}).get("blobs_by", ""), ""),
    ]
