"""Times as people read them. The protocol's times are whole seconds since 1970, UTC; it reads no clock of its own."""

from datetime import UTC, datetime


def date_text(seconds: int) -> str:
    """Such as "2026-03-01 12:00 UTC"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
