"""fednode start, stop, status, peers."""

import time
from pathlib import Path
from typing import Any

import click

from fednode_client import ClientError
from fednode_endpoints import home_path
from node.cli import show
from node.cli.common import EXIT_FAILED, Answer, common_options

STOP_WAIT_S = 15.0  # three times what a node allows itself
STOP_POLL_S = 0.05
LIFELINE_GRACE_S = 8.0  # a node allows itself 5 s to stop in order


@click.command()
@click.option("--name", help="What others call this node. Remembered. [default: this machine's name]")
@click.option("--member-name", help="What others call you. Remembered. [default: your login name]")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Where others reach this node: PORT, ADDRESS or ADDRESS:PORT. Remembered; strangers with an invitation knock "
    "at the next port. [default: all addresses, a free port]",
)
@click.option("--detach", is_flag=True, help="Run in the background, with the log in the node's folder.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--lifeline-fd", type=int, hidden=True, help="A pipe: the node stops when its other end is closed.")
@common_options
@click.pass_obj
def start(
    answer: Answer,
    /,
    detach: bool,
    log_format: str,
    ready_fd: int | None,
    lifeline_fd: int | None,
    **remembered: str | None,
) -> int:
    """Start this machine's node.

    The first start makes the node's identity and the member's (yours), picks a port and remembers it. To run several
    nodes as one member, copy member.key into the other node's folder before its first start.
    """
    home = home_path(answer.home)
    if detach:
        return _start_detached(answer, home, log_format, remembered)
    if lifeline_fd is not None:  # before what takes seconds to import
        from node.lifeline import end_with

        end_with(lifeline_fd, LIFELINE_GRACE_S)
    from node.daemon import DaemonOptions, run_daemon
    from node.home import listen_address

    listen = remembered["listen"]
    return run_daemon(
        DaemonOptions(
            home=home,
            name=remembered["name"],
            member_name=remembered["member_name"],
            listen=listen_address(listen) if listen else None,
            log_format="json" if log_format == "json" else "text",
            json=answer.json,
            debug=answer.debug,
            ready_fd=ready_fd,
        )
    )


def _start_detached(answer: Answer, home: Path, log_format: str, remembered: dict[str, str | None]) -> int:
    from node.detach import start_detached

    arguments = ["--home", str(home), "--log-format", log_format]
    for option, value in remembered.items():
        arguments += [f"--{option.replace('_', '-')}", value] if value else []
    arguments += ["--debug"] if answer.debug else []
    told = start_detached(home, arguments)
    if "status" in told:
        answer.give(told["status"], lambda: show.running_node(told["status"]))
        return 0
    error = told["error"]
    answer.fail(ClientError(error["what"], remedy=error["remedy"]))
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
    """List the nodes of your groups, this one first."""
    found = answer.client().peers()["peers"]
    if answer.json:
        answer.give(found, "")
        return
    show.table(
        ["NAME", "NODE", "STATE", "LAST SEEN", "CORES", "MEMORY", "GPUS", "RUNS"], [_row(peer) for peer in found]
    )
    if len(found) == 1:
        answer.hint("Nobody else yet. Let somebody in: fednode invite")


def _row(peer: dict[str, Any]) -> list[object]:
    capacity = peer.get("capacity") or {}
    state = "this node" if peer["self"] else ("connected" if peer["connected"] else "away")
    return [
        peer["name"],
        show.node(peer["node_id"]),
        state,
        show.moment(peer.get("last_seen")),
        capacity.get("cpu_cores"),
        show.size(capacity.get("memory_bytes")),
        len(capacity.get("gpus") or ()) or "",
        len(peer.get("runs") or ()) or "",
    ]
