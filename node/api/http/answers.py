"""How the API's handlers answer: JSON, names out of paths, and errors as docs/api.md has them."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.http.json import is_long, json_bytes
from node.api.http.streams import JsonStream
from node.api.service.service import NotFound
from protocol.errors import FednodeError, Refused

REFUSED = 409  # by a rule

Handler = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("fednode.api")


def answer(value: object, status: int = 200) -> Response:
    if is_long(value) and status == 200:
        return JsonStream(value)
    return Response(json_bytes(value), status, media_type="application/json")


def named(request: Request, parameter: str) -> str:
    """A name from the path. Paths are matched while they are still quoted, so a name may hold a slash."""
    return unquote(request.path_params[parameter])


def status_of(error: FednodeError) -> int:
    """400 malformed, 404 no such thing, 409 a rule refuses it, 503 the node cannot do it now."""
    if not isinstance(error, Refused):
        return 503
    if error.code == "malformed" or error.code.startswith("bad-"):
        return 400
    if isinstance(error, NotFound) or error.code.startswith("no-such-"):
        return 404
    return REFUSED


def error_answer(error: FednodeError, status: int | None = None) -> Response:
    """`error` as docs/api.md has it, with `status`, or else that of its kind."""
    body = error_body(error, status)
    return answer({"error": body}, body["status"])


def error_body(error: FednodeError, status: int | None = None) -> dict[str, Any]:
    status = status_of(error) if status is None else status
    code = error.code if isinstance(error, Refused) else "unavailable"
    body: dict[str, Any] = {"code": code, "what": error.what, "remedy": error.remedy, "status": status}
    if problems := getattr(error, "problems", None):
        body["problems"] = list(problems)
    return body


def route(method: str, path: str, handler: Handler) -> Route:
    """A route whose handler may raise: what goes wrong becomes an answer."""
    return Route(path, guarded(handler), methods=[method])


def guarded(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except FednodeError as error:
            return error_answer(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it
        except Exception:  # noqa: BLE001 - the node lives on whatever a question runs into; the log has the traceback
            _log.exception("%s %s failed", request.method, request.url.path)
            return error_answer(FednodeError("The node failed at this: a bug", remedy="see its log for the traceback"))

    return guarded
