"""A simulation's trace: all that its network did and its nodes committed, as one hash. Equal seeds, equal hashes."""

from blake3 import blake3

from simulations.world.network import SimulatedEvent


class Trace:
    """Takes events as they happen; keeps nothing but the hash and a count."""

    def __init__(self) -> None:
        self._hash = blake3()
        self.events = 0

    def network(self, event: SimulatedEvent) -> None:
        self.add(f"{event.time:.9f}", event.kind, event.source, event.target, event.size, event.checksum)

    def add(self, *parts: object) -> None:
        self.events += 1
        self._hash.update("\t".join(map(str, parts)).encode() + b"\n")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
