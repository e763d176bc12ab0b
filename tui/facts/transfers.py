"""What a node tells of blobs on their way to and from it, as frozen values. docs/api.md says what each field means."""

from dataclasses import dataclass

from tui.facts.fields import Json, measure, name_of, number, text


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A blob that has been on its way for over a second. `peer`: its name, or empty where there are several."""

    blob: str
    kind: str
    run_name: str
    incoming: bool
    peer: str
    done_bytes: int
    total_bytes: int
    rate: float  # bytes a second
    left_s: float | None

    @property
    def done(self) -> float:
        """From 0 to 1."""
        return min(self.done_bytes / self.total_bytes, 1.0) if self.total_bytes > 0 else 0.0

    @classmethod
    def of(cls, source: Json) -> "UnderWay":
        return cls(
            blob=text(source, "blob"),
            kind=text(source, "kind"),
            run_name=text(source, "run_name"),
            incoming=text(source, "direction") == "in",
            peer=name_of(source, "peer_name", "peer"),
            done_bytes=max(number(source, "done_bytes"), 0),
            total_bytes=max(number(source, "total_bytes"), 0),
            rate=max(measure(source, "rate_bytes_per_s") or 0.0, 0.0),
            left_s=measure(source, "left_s"),
        )
