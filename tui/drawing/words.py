"""How figures, times and states are put into words and signs. A state has a sign and a word; colour repeats it."""

from datetime import datetime

from rich.cells import cell_len, set_cell_size

CROWN = "♛"
SIGNS = {
    "INVITED": "?",
    "DECLINED": "⊘",
    "READY": "●",
    "TRAINING": "◐",
    "UPLOADING": "▲",
    "WAITING": "◌",
    "LOST": "✗",
    "FINISHED": "✓",
    "FAILED": "!",
    "PROPOSED": "?",
    "GATHERING": "◔",
    "RUNNING": "▶",
    "STOPPED": "■",
}
STATE_STYLES = {
    "TRAINING": "good",
    "UPLOADING": "accent",
    "READY": "good",
    "RUNNING": "good",
    "FINISHED": "strong",
    "LOST": "bad",
    "FAILED": "bad",
    "DECLINED": "dim",
    "INVITED": "warn",
    "PROPOSED": "warn",
    "GATHERING": "warn",
    "STOPPED": "warn",
    "WAITING": "dim",
}
LEVEL_STYLES = {"DEBUG": "dim", "INFO": "", "WARNING": "warn", "ERROR": "bad", "CRITICAL": "bad"}
LEVEL_WORDS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
BAR_EIGHTHS = " ▏▎▍▌▋▊▉"


def state_sign(state: str) -> str:
    """One character for a state; a dot for one that we do not know."""
    return SIGNS.get(state, "·")


def bytes_text(count: int) -> str:
    """A number of bytes in at most 8 characters, decimal units: `12.3 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    digits = 0 if unit == "B" or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f} {unit}"


def memory_text(count: int) -> str:
    """An amount of memory in whole GiB, or in MiB below one."""
    return f"{count / 2**30:.0f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def value_text(value: float | None, width: int = 6) -> str:
    """A metric's value, four significant digits at most, in `width` characters where that is possible."""
    if value is None:
        return "–"
    for form in (f"{value:.4f}", f"{value:.3f}", f"{value:.2f}", f"{value:.1f}", f"{value:.0f}", f"{value:.1e}"):
        if len(form) <= width and (float(form) != 0.0 or value == 0.0):
            return form
    return f"{value:.0e}"


def rtt_text(seconds: float) -> str:
    """A round trip's time: `0.4 ms`, `12 ms`, `1.3 s`."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"


def seconds_text(seconds: float | None) -> str:
    """A duration in the largest two units that matter: `3.2 s`, `4 min 10 s`, `2 h 05 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def duration_text(seconds: float) -> str:
    """How far along something is, as players show it: `1:23`, `2:05:10`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def clock_text(when: datetime | None) -> str:
    """A time of day in this machine's zone, to the second."""
    return when.astimezone().strftime("%H:%M:%S") if when else "–"


def date_text(when: datetime | None) -> str:
    """A date and time in this machine's zone, to the minute."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M") if when else "–"


def bar(done: float, width: int) -> str:
    """A progress bar of `width` cells; `done` from 0 to 1."""
    eighths = round(min(max(done, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (BAR_EIGHTHS[part] if part else "")).ljust(width, "░")


def counted(count: int, one: str, many: str = "") -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` cells of the terminal, an ellipsis for what is cut off."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""
