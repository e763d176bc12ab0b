"""Times as people read them. The protocol's times are whole seconds since 1970, UTC; it reads no clock of its own."""

from datetime import UTC, datetime


def date_text(seconds: int) -> str:
    """Such as "2026-03-01 12:00 UTC"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def ago_text(seconds: int, now: int) -> str:
    """When `seconds` was, as seen from `now`, which is later: "20 s ago, on 2026-03-01 12:00:05 UTC"."""
    past = max(0, now - seconds)
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if past >= 2 * length:
            return f"{past // length} {unit} ago, on {clock_text(seconds)}"
    return f"{past} s ago, on {clock_text(seconds)}"


def clock_text(seconds: int) -> str:
    """To the second, for what clocks are compared by: "2026-03-01 12:00:05 UTC"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
