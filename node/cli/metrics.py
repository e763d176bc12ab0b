"""fednode metrics: what the node counts, for Prometheus, which cannot read a Unix socket by itself."""

import os
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click

from fednode_client import Client, ClientError
from node.cli.common import Answer, common_options
from protocol.errors import FednodeError, Refused

TEXT = "text/plain; version=0.0.4; charset=utf-8"
FILE_MODE = 0o644  # node_exporter, which runs as another user, must read it; only counts are in it
READ_DEADLINE_S = 10.0  # for a request to come whole


@click.command()
@click.option("--write", "file", type=click.Path(path_type=Path, dir_okay=False), help="Into this file, at once whole.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve it at /metrics there until interrupted: 127.0.0.1:9464.")
@common_options
@click.pass_obj
def metrics(answer: Answer, file: Path | None, listen: str | None) -> None:
    """Print what the node counts, as Prometheus reads it.

    Prometheus cannot read the node's own socket. Let this command serve it (--listen), or let node_exporter's textfile
    collector find it in a file (--write, from a timer). There is no password: listen on 127.0.0.1, or where only
    Prometheus can reach it. It tells counts, no names.
    """
    if file is not None and listen is not None:
        raise click.UsageError("name a file or an address, not both")
    if listen is not None:
        _serve(answer, *_place(listen))
        return
    text = answer.client().prometheus()
    if file is None:
        answer.give({"text": text}, text.rstrip("\n"))
    else:
        _write(file, text)
        answer.give({"file": str(file)}, f"Written to {file}.")


def _write(file: Path, text: str) -> None:
    """Whole or not at all: the collector may read at any moment."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=file.absolute().parent, prefix=f".{file.name}.", delete=False
        ) as made:
            made.write(text)
        os.chmod(made.name, FILE_MODE)
        os.replace(made.name, file)
    except OSError as error:
        raise FednodeError(f"{file} cannot be written ({error.strerror})", remedy="name a file of yours") from None


def _place(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise Refused("bad-address", f"{listen!r} is no address to serve at", remedy="write one such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)


def _serve(answer: Answer, host: str, port: int) -> None:
    try:
        server = MetricsServer(host, port, answer.client())
    except OSError as error:
        raise FednodeError(
            f"{host}:{port} cannot be listened on ({error.strerror})", remedy="name another port, or end what has it"
        ) from None
    with server:
        where = f"http://{host}:{server.server_port}/metrics"
        answer.give({"url": where}, f"Serving {where} until interrupted.")
        server.serve_forever()


class MetricsServer(ThreadingHTTPServer):
    """Answers GET /metrics with what the node of `client` says then; 503 while it says nothing. Port 0 picks one."""

    daemon_threads = True

    def __init__(self, host: str, port: int, client: Client) -> None:
        self.client = client
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = READ_DEADLINE_S

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self._answer(404, "There is only /metrics here\n")
            return
        try:
            self._answer(200, self.server.client.prometheus())
        except ClientError as error:
            self._answer(503, f"{error}\n")

    def _answer(self, status: int, text: str) -> None:
        raw = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", TEXT if status == 200 else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal: a scrape every few seconds is nothing to tell."""
