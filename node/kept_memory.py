"""Memory that chunks pass through stays with this process, instead of going back to the system after each of them.

A chunk of 1 MiB is more than the C library likes to keep: it asks the system for new pages every time, and these must
be cleared. Reading 256 MB of a blob in chunks took 63 ms of a core so, of which 8 were for the reading.
"""

import ctypes

from protocol.limits import CHUNK_BYTES

# The options of mallopt(3), of glibc alone.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS_MAX = -1, -3, -8
KEPT_BYTES_MAX = 32 * 1024 * 1024  # of each arena: the chunks that are under way of a few transfers
# Threads share these. Each would else get one, and keep as much.
ARENAS_MAX = 2


def keep_memory() -> None:
    """Keep what is freed, within bounds, from now on. Call it before there are threads. Elsewhere than with glibc
    nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 4 * CHUNK_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES_MAX)
        mallopt(_ARENAS_MAX, ARENAS_MAX)
