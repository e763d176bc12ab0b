"""What may come in through the local API: each request's body and query, checked before anything looks at it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from node.api.service.service import LogPolicy
from node.network.reach import OUTSIDE_MAX
from protocol.errors import Refused
from protocol.limits import ADDRESS_CHARACTERS_MAX, NAME_CHARACTERS_MAX, RUN_ROUNDS_MAX, TOKEN_CHARACTERS_MAX
from protocol.manifest.read import CONFIGURATION_CHARACTERS_MAX
from tracker.queries.series import POINTS_ROWS_MAX

BODY_BYTES_MAX = 512 * 1024  # the longest is a run's configuration with overrides, each character escaped
PATH_CHARACTERS_MAX = 4096  # what Linux allows
REASON_CHARACTERS_MAX = 500
ROWS_MAX = 1_000_000  # of one answer: more is an export's work
USES_MAX = 10_000
EXPIRES_S_MAX = 366 * 86_400
OVERRIDES_MAX = 100
RULES_MAX = 256  # people write them by hand

NameText = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]
AddressText = Annotated[str, Field(min_length=1, max_length=ADDRESS_CHARACTERS_MAX)]
PathText = Annotated[str, Field(min_length=1, max_length=PATH_CHARACTERS_MAX)]
Reason = Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)]
Model = TypeVar("Model", bound=BaseModel)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(Body):
    pass


class CreateGroup(Body):
    name: NameText


class Invite(Body):
    group: NameText | None = None
    role: Literal["admin", "member", "observer"] = "member"
    uses: int = Field(default=1, ge=1, le=USES_MAX)
    expires_s: int = Field(default=604_800, ge=1, le=EXPIRES_S_MAX)
    addresses: Annotated[list[AddressText], Field(max_length=OUTSIDE_MAX)] = []
    qr: bool = False


class Join(Body):
    token: Annotated[str, Field(min_length=1, max_length=TOKEN_CHARACTERS_MAX)]


class AddData(Body):
    name: NameText
    path: PathText
    options: dict[str, Any] = {}


class StartRun(Body):
    config: Annotated[str, Field(max_length=CONFIGURATION_CHARACTERS_MAX)]
    source: PathText | None = None
    group: NameText | None = None
    overrides: Annotated[dict[str, Any], Field(max_length=OVERRIDES_MAX)] = {}


class Accept(Body):
    data: NameText | None = None
    task: PathText | None = None


class SetPolicy(Body):
    rules: Annotated[list[NameText], Field(max_length=RULES_MAX)] | None = None
    logs: LogPolicy | None = None


class Because(Body):
    reason: Reason = ""


class Extend(Body):
    rounds: int = Field(ge=1, le=RUN_ROUNDS_MAX)


class Sql(Body):
    statement: Annotated[str, Field(min_length=1, max_length=64 * 1024)]
    rows_max: int = Field(default=10_000, ge=1, le=ROWS_MAX)


class Query(BaseModel):
    # Not strict: a query's values are texts, and numbers are read from them.
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricsText(Query):
    key: NameText | None = None
    node: Annotated[str, Field(max_length=NAME_CHARACTERS_MAX)] | None = None  # "": the means alone
    scope: Literal["local", "global"] | None = None
    split: Literal["train", "eval"] | None = None
    class_: Annotated[str, Field(max_length=NAME_CHARACTERS_MAX)] | None = Field(default=None, alias="class")
    after_round: int | None = Field(default=None, ge=-1)
    before_round: int | None = Field(default=None, ge=0)
    points: int | None = Field(default=None, ge=1, le=POINTS_ROWS_MAX)
    limit: int = Field(default=10_000, ge=1, le=ROWS_MAX)


class RoundsQuery(Query):
    after_round: int | None = Field(default=None, ge=-1)
    limit: int = Field(default=100_000, ge=1, le=ROWS_MAX)


class ModelQuery(Query):
    round: int | None = Field(default=None, ge=0)


def malformed(what: str) -> Refused:
    return Refused("malformed", what, remedy="see docs/api.md for what this endpoint takes")


async def body_of(request: Request, kind: type[Model]) -> Model:
    """The request's body. Nothing counts as an empty object. Raises Refused (malformed)."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > BODY_BYTES_MAX:
            raise malformed(f"The body has more than {BODY_BYTES_MAX:,} bytes")
    try:
        return kind.model_validate_json(bytes(raw) or b"{}")
    except ValidationError as error:
        raise _misfit(error) from None


def query_of(request: Request, kind: type[Model]) -> Model:
    """The request's query. Raises Refused (malformed)."""
    given: Mapping[str, str] = request.query_params
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise _misfit(error) from None


def _misfit(error: ValidationError) -> Refused:
    places = []
    for details in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in details["loc"])
        places.append(f"{place or 'the body'}: {details['msg']}")
    return malformed(f"The request does not fit: {'; '.join(places)}")
