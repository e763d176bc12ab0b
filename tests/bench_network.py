"""Bulk transfer between two processes on this machine, beside what the same bytes cost without fednode around them.

bulk_vs_tls          256 MB fetched by one node from one peer, into a blob that is verified and fsynced, against a plain
                     non-blocking TLS 1.3 socket that reads the same number of bytes into memory
bulk_vs_tcp          the same against a plain TCP socket
bulk_vs_bare         the same against a bare loop at either end that does what a blob needs and nothing else: read the
                     file, hash, TLS 1.3, hash, write, fsync. What nobody can do better on this machine in Python
bulk_vs_libp2p       the same against a stream of libp2p (noise, yamux, PY_YAMUX_RELEASE_ON_READ=0) that carries 64 MB
                     in frames of 1 MiB into memory
..._64mb             64 MB instead of 256 MB

All are measured in turn, several times over, and the best of each counts: ratios within one run.
"""

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blake3 import blake3

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1_000_000
SIZES = {"": 256 * MEGABYTE, "_64mb": 64 * MEGABYTE}  # by what a figure's name ends in
LIBP2P_BYTES = 64 * MEGABYTE  # its speed does not depend on the length, and it takes its time
PIECE_BYTES = 1024 * 1024
REPEATS = 3
SERVER_DEADLINE_S = 60.0  # to be up; importing libp2p on a busy machine takes its time
LIBP2P_PROTOCOL = "/fednode/bench/1"  # a protocol of libp2p: what blobs would go over if there were nothing better


def figures() -> dict[str, float]:
    """Ratios of speeds, and the speeds in MB/s."""
    speeds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fednode-bench-") as folder:
        for turn in range(REPEATS):
            place = Path(folder) / str(turn)
            place.mkdir()
            for name, speed in _speeds(place).items():
                speeds[name] = max(speeds.get(name, 0.0), speed)
    ratios = {
        f"bulk_vs_{other}{size}": round(speeds[f"bulk{size}"] / speeds[f"{other}{size}"], 3)
        for size in SIZES
        for other in ("tls", "tcp", "bare", "libp2p")
    }
    return {**ratios, **{f"{name}_mb_per_s": round(speed / MEGABYTE, 1) for name, speed in speeds.items()}}


def _speeds(folder: Path) -> dict[str, float]:
    """Each measured once, in bytes a second."""
    speeds = {}
    for name, size in SIZES.items():
        speeds[f"tcp{name}"] = size / plain_seconds("tcp", size, folder)
        speeds[f"tls{name}"] = size / plain_seconds("tls", size, folder)
        speeds[f"bare{name}"] = size / plain_seconds("bare", size, folder)
        speeds[f"bulk{name}"] = size / _fetch_seconds("bulk", size, folder)
    libp2p = LIBP2P_BYTES / _fetch_seconds("libp2p", LIBP2P_BYTES, folder)
    return {**speeds, **{f"libp2p{name}": libp2p for name in SIZES}}


# --- plain sockets -----------------------------------------------------------------------------------------------
def plain_seconds(way: str, size: int, folder: Path) -> float:
    """How long `size` bytes take from another process through one non-blocking socket: "tls" or "tcp" into memory,
    "bare" by TLS from a file into a file, hashed at both ends."""
    context = ssl.create_default_context(cafile=str(_certificate(folder)))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with _server(way, size, folder) as told, socket.create_connection(("127.0.0.1", told["port"])) as plain:
        connection = plain if way == "tcp" else context.wrap_socket(plain, server_hostname="localhost")
        with connection, (folder / "came").open("wb", buffering=0) as file:
            connection.setblocking(False)
            buffer = memoryview(bytearray(PIECE_BYTES))
            connection.send(b"g")  # the handshake is not counted
            began, came = time.perf_counter(), 0
            while came < size:
                try:
                    at = came % PIECE_BYTES
                    came += connection.recv_into(buffer[at:])
                except (ssl.SSLWantReadError, BlockingIOError):
                    select.select([connection], [], [])
                    continue
                if way == "bare" and (came % PIECE_BYTES == 0 or came == size):
                    piece = buffer[: came % PIECE_BYTES or PIECE_BYTES]
                    blake3(piece).digest()
                    file.write(piece)
            if way == "bare":
                os.fsync(file.fileno())
            return time.perf_counter() - began


def _serve_plain(way: str, size: int, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(folder / "tls.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _tell(port=listener.getsockname()[1])
        plain, _ = listener.accept()
        original = (folder / "went").open("w+b", buffering=0)
        original.truncate(size)
        with original, plain, plain if way == "tcp" else context.wrap_socket(plain, server_side=True) as connection:
            piece = memoryview(bytearray(os.urandom(PIECE_BYTES)))
            if way == "bare":
                for _ in range(0, size, PIECE_BYTES):
                    original.write(piece)
                original.seek(0)
            connection.recv(1)
            connection.setblocking(False)
            left = size
            while left:
                try:
                    at = (size - left) % PIECE_BYTES
                    if way == "bare" and at == 0:
                        original.readinto(piece)
                        blake3(piece).digest()
                    left -= connection.send(piece[at : min(left + at, PIECE_BYTES)])
                except (ssl.SSLWantWriteError, BlockingIOError):
                    select.select([], [connection], [])
            connection.setblocking(True)
            connection.recv(1)  # the reader is done


def _certificate(folder: Path) -> Path:
    """A key and a self-signed certificate for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / "tls.pem"
    if path.exists():
        return path
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    raw_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(raw_key + certificate.public_bytes(serialization.Encoding.PEM))
    return path


# --- a node's network --------------------------------------------------------------------------------------------
def _fetch_seconds(way: str, size: int, folder: Path) -> float:
    """How long another process, which is not counted but for its transfer, takes to have all bytes."""
    with _server(way, size, folder) as told:
        return float(_child(f"fetch-{way}", size, folder, json.dumps(told))["seconds"])


async def _serve_bulk(size: int, folder: Path) -> None:
    import trio

    from node.home.disk import FileDisk
    from node.network.bulk.bulk import Bulk

    disk = FileDisk(folder / f"there-{size}")
    async with _network() as network:
        bulk = Bulk(network, disk, lambda peer, blob: True)
        async with trio.open_nursery() as nursery:
            await nursery.start(bulk.run)
            blob = await disk.put_blob(os.urandom(size))
            _tell(blob=blob, node_id=network.node_id, addresses=network.addresses())
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)  # until we are told to end
            nursery.cancel_scope.cancel()


async def _fetch_bulk(size: int, folder: Path, told: dict[str, Any]) -> None:
    import trio

    from node.home.disk import FileDisk
    from node.network.bulk.bulk import Bulk
    from node.seams import BLOB_PROTOCOL

    disk = FileDisk(folder / f"here-{size}")
    async with _network() as network:
        network.learn(told["node_id"], told["addresses"])
        bulk = Bulk(network, disk, lambda peer, blob: True)
        async with trio.open_nursery() as nursery:
            await nursery.start(bulk.run)
            with trio.fail_after(SERVER_DEADLINE_S):
                stream = await network.open(told["node_id"], BLOB_PROTOCOL)  # the connection is not counted
                await stream.close()
            began = time.perf_counter()
            fetched = await bulk.fetch(told["blob"], [told["node_id"]], size)
            seconds = time.perf_counter() - began
            if fetched.size != size:
                raise RuntimeError(f"{fetched.size} bytes came, not {size}")
            _tell(seconds=seconds)
            nursery.cancel_scope.cancel()


async def _serve_libp2p(size: int, folder: Path) -> None:
    import trio

    from node.seams import Stream

    async with _network() as network:
        frame = os.urandom(PIECE_BYTES)

        async def send(stream: Stream) -> None:
            await stream.receive_frame(1)
            for _ in range(0, size, PIECE_BYTES):
                await stream.send_frame(frame)
            await stream.receive_frame(1)

        network.handle(LIBP2P_PROTOCOL, send)
        _tell(node_id=network.node_id, addresses=network.addresses())
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


async def _fetch_libp2p(size: int, folder: Path, told: dict[str, Any]) -> None:
    async with _network() as network:
        network.learn(told["node_id"], told["addresses"])
        stream = await network.open(told["node_id"], LIBP2P_PROTOCOL)
        await stream.send_frame(b"g")
        began, came = time.perf_counter(), 0
        while came < size:
            came += len(await stream.receive_frame(PIECE_BYTES))
        seconds = time.perf_counter() - began
        await stream.send_frame(b"e")
        _tell(seconds=seconds)


@contextmanager
def _server(way: str, size: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Another process that serves; gives what it says of itself. It is ended with the context."""
    process = _start(f"serve-{way}", size, folder)
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], SERVER_DEADLINE_S)
        line = process.stdout.readline() if readable else b""
        if not line:
            raise RuntimeError(f"serve-{way} did not say where it is")
        yield json.loads(line)
    finally:
        process.kill()
        process.communicate()


def _child(what: str, size: int, folder: Path, told: str) -> dict[str, Any]:
    process = _start(what, size, folder, told)
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{what} ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def _start(*arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PY_YAMUX_RELEASE_ON_READ": "0"}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


@asynccontextmanager
async def _network() -> AsyncIterator[Any]:
    """A node's real network, which lets everybody in."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from node.network.libp2p.network import open_network

    async with open_network(Ed25519PrivateKey.generate(), ["/ip4/127.0.0.1/tcp/0"]) as network:
        network.set_door(lambda peer: True)
        yield network


def _main(what: str, size: int, folder: Path, *told: str) -> None:
    import trio

    from node.kept_memory import keep_memory

    keep_memory()  # as a node does
    match what:
        case "serve-tls" | "serve-tcp" | "serve-bare":
            _serve_plain(what.removeprefix("serve-"), size, folder)
        case "serve-bulk":
            trio.run(_serve_bulk, size, folder)
        case "serve-libp2p":
            trio.run(_serve_libp2p, size, folder)
        case "fetch-bulk":
            trio.run(_fetch_bulk, size, folder, json.loads(told[0]))
        case "fetch-libp2p":
            trio.run(_fetch_libp2p, size, folder, json.loads(told[0]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
    else:
        print(json.dumps(figures(), indent=1))
