"""Who may speak to `fednode web`: one-time tokens, the cookies they are changed into, and the names we answer to. Pure.

Whoever gets in does all that the node's owner does, so the door asks more than the address: that the request names
this machine (a page elsewhere may have bent a name of its own to 127.0.0.1), that a browser was let in by a token, and,
where something is done, that our own page asks for it.
"""

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

TOKEN_BYTES = 32  # 256 bits: nobody guesses it, so nobody need be slowed down
BROWSERS_MAX = 16  # let in at once; the one let in first must come back with a new token
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})

NO_TOKEN = (
    "Refused: this browser was not let in. Open the newest address that fednode web has printed; each works once."
)
WRONG_HOST = "Refused: this address is not this machine's. Open the address that fednode web has printed."
WRONG_ORIGIN = "Refused: another page asks for the dashboard. Open the address that fednode web has printed."


class Door:
    """Holds the token that is good now, and the cookies given for those that were used."""

    def __init__(self) -> None:
        self.cookie_name = f"fednode-{secrets.token_hex(4)}"  # browsers give all ports of a machine the same cookies
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self._cookies: list[str] = []

    def spend(self, token: str) -> str | None:
        """The cookie for this token, which from now on is worth nothing; None if it is not the one that is good now."""
        if not secrets.compare_digest(token.encode(errors="replace"), self.token.encode()):
            return None
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        cookie = secrets.token_urlsafe(TOKEN_BYTES)
        self._cookies = [*self._cookies, cookie][-BROWSERS_MAX:]
        return cookie

    def knows(self, cookies: Mapping[str, str]) -> bool:
        """One of the cookies that a browser sent was given by us."""
        shown = cookies.get(self.cookie_name, "").encode(errors="replace")  # a header may hold any bytes
        return any(secrets.compare_digest(shown, cookie.encode()) for cookie in self._cookies)


def is_our_host(host: str) -> bool:
    """The Host header names this machine, on whatever port: it may come through a forwarded one."""
    try:
        return urlsplit(f"//{host}").netloc == host and _without_port(host) in HOSTS
    except ValueError:  # brackets that do not close
        return False


def is_our_origin(origin: str, host: str) -> bool:
    """The page that asks came from where it asks."""
    return origin == f"http://{host}"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and name != ":" else host
