"""The words of `--where` and `--sort`: `accuracy > 0.9 and not (state = 'FAILED' or params.seed in (1, 2))`.

Parsed here and evaluated in the command's own process over what the node, or a store's file, tells: nothing is handed
to `eval` or to the database, so an expression can only compare, and live columns count as they are shown. What a run
lacks is unknown, and unknown is what SQL makes of it (Kleene's three values): only what is surely true is chosen.

    expression := conjunction { "or" conjunction }      conjunction := negation { "and" negation }
    negation := "not" negation | "(" expression ")" | comparison
    comparison := side ("=" | "!=" | "<" | "<=" | ">" | ">=") side | side ["not"] "in" "(" value { "," value } ")"
    side := value | name          value := number | 'text' | "text" | true | false | null
    name := column | "params." KEY | "metrics." KEY     (a KEY with odd characters between backticks)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from protocol.errors import Refused

CHARACTERS_MAX = 4000  # the keys named in it go into one statement of the record's, which may have 20,000
DEPTH_MAX = 50  # of parentheses and negations; Python's own stack ends at some 1000 calls
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<name>[A-Za-z_][\w-]*(?:\.(?:[\w-]+|`[^`]+`))*)
    | (?P<sign><=|>=|!=|<>|==|[=<>(),])""",
    re.VERBOSE,
)
_COMPARISONS = frozenset({"=", "==", "!=", "<>", "<", "<=", ">", ">="})
_WORDS = frozenset({"and", "or", "not", "in", "true", "false", "null"})
_LITERALS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}

Value = Any  # what JSON knows
Name = str
Known = Callable[[Name], Value]  # a run's value of a name; None where it has none
Truth = bool | None  # None: unknown


class Test(NamedTuple):
    """A parsed expression: which names it looks at, and what it says of a run."""

    names: frozenset[Name]
    holds: Callable[[Known], Truth]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, text, name, word, sign or end
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.lower() if self.kind in ("word", "sign") else ""


class _Side(NamedTuple):
    """One side of a comparison: a name, or a value."""

    name: Name | None
    value: Value
    token: _Token

    def of(self, known: Known) -> Value:
        return self.value if self.name is None else known(self.name)


def parse(text: str, resolve: Callable[[str], Name], kind_of: Callable[[Name], str | None]) -> Test:
    """Read an expression.

    Args:
        resolve: the full name of what is written, or raises LookupError with a sentence that names what is known.
        kind_of: "number" or "text" where all runs' values of a name are of that kind, else None.

    Raises:
        Refused: code `bad-where`; its text shows the place.
    """
    if len(text) > CHARACTERS_MAX:
        raise Refused(
            "bad-where", f"The expression has {len(text)} characters", remedy=f"write at most {CHARACTERS_MAX}"
        )
    return _Parser(text, resolve, kind_of).whole()


def parse_sort(text: str, resolve: Callable[[str], Name]) -> list[tuple[Name, bool]]:
    """The names of `-accuracy,name` in their order, each with whether the largest comes first."""
    chosen = []
    for part in re.finditer(r"[^,]+", text):
        bare = part[0].strip()
        try:
            chosen.append((resolve(bare.lstrip("-+")), bare.startswith("-")))
        except LookupError as error:
            raise _refusal("--sort", text, part.start(), len(part[0]), str(error.args[0])) from None
    return chosen


def in_order(rows: Sequence[Any], by: Sequence[tuple[Name, bool]], value_of: Callable[[Any, Name], Value]) -> list[Any]:
    """`rows` sorted by several names, what is missing last; numbers before texts where a name has both."""
    ordered = list(rows)
    for name, descending in reversed(by):
        present = [row for row in ordered if value_of(row, name) is not None]
        missing = [row for row in ordered if value_of(row, name) is None]
        present.sort(key=lambda row: _sort_key(value_of(row, name)), reverse=descending)
        ordered = present + missing
    return ordered


def _sort_key(value: Value) -> tuple[int, Any]:
    kind = _kind(value)
    return ("truth", "number", "text").index(kind) if kind != "list" else 3, value if kind != "list" else str(value)


class _Parser:
    def __init__(self, text: str, resolve: Callable[[str], Name], kind_of: Callable[[Name], str | None]) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0
        self._resolve = resolve
        self._kind_of = kind_of
        self._names: set[Name] = set()

    def whole(self) -> Test:
        holds = self._either()
        if self._next.kind != "end":
            hint = "write two comparisons with and between them" if self._next.word in _COMPARISONS else ""
            self._wrong("here should be and, or, or the end", hint)
        return Test(frozenset(self._names), holds)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *words: str) -> bool:
        if self._next.word not in words:
            return False
        self._place += 1
        return True

    def _either(self) -> Callable[[Known], Truth]:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda known: _or([part(known) for part in parts])

    def _both(self) -> Callable[[Known], Truth]:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda known: _not(_or([_not(part(known)) for part in parts]))

    def _negation(self) -> Callable[[Known], Truth]:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._wrong(
                f"more than {DEPTH_MAX} parentheses and nots lie within each other here", "write it more simply"
            )
        try:
            if self._take("not"):
                inner = self._negation()
                return lambda known: _not(inner(known))
            if self._take("("):
                within = self._either()
                self._close()
                return within
            return self._comparison()
        finally:
            self._depth -= 1

    def _close(self) -> None:
        if not self._take(")"):
            self._wrong("here should be )")

    def _comparison(self) -> Callable[[Known], Truth]:
        left = self._side()
        if self._next.word == "not" or self._next.word == "in":
            negated = self._take("not")
            return self._membership(left, negated)
        sign = self._next.word
        if not self._take(*_COMPARISONS):
            self._wrong(f"here should be a comparison, such as {left.token.text} = …")
        right = self._side()
        self._check_kinds(left, sign, right)
        return lambda known: _compared(left.of(known), sign, right.of(known), _is_null(left) or _is_null(right))

    def _membership(self, left: _Side, negated: bool) -> Callable[[Known], Truth]:
        if not self._take("in"):
            self._wrong("here should be in")
        if not self._take("("):
            self._wrong("here should be (, then values with commas between them")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._close()
        for value in values:
            self._check_kinds(left, "=", value)

        def holds(known: Known) -> Truth:
            found = left.of(known)
            return _or([_compared(found, "=", value.value, value.value is None) for value in values])

        return (lambda known: _not(holds(known))) if negated else holds

    def _side(self) -> _Side:
        token = self._next
        if token.kind != "name":
            return self._value("a name or a value")
        self._place += 1
        try:
            name = self._resolve(token.text)
        except LookupError as error:
            raise _refusal("--where", self._text, token.at, len(token.text), str(error.args[0])) from None
        self._names.add(name)
        return _Side(name, None, token)

    def _value(self, wanted: str = "a number, a text in quotes, true, false or null") -> _Side:
        token = self._next
        if token.kind == "number":
            value: Value = float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        elif token.kind == "text":
            value = token.text[1:-1].replace(token.text[0] * 2, token.text[0])
        elif token.word in _LITERALS:
            value = _LITERALS[token.word]
        else:
            hint = f"put quotes around a text: '{token.text}'" if token.kind == "name" else ""
            self._wrong(f"here should be {wanted}", hint)
        self._place += 1
        return _Side(None, value, token)

    def _check_kinds(self, left: _Side, sign: str, right: _Side) -> None:
        """A column of numbers that is compared with a text is a mistake, not a run that does not fit."""
        for named, other in ((left, right), (right, left)):
            if _is_null(other) and sign not in ("=", "==", "!=", "<>"):
                self._wrong("null is neither less nor more than anything", "compare it by = or !=", other.token)
            if named.name is None or other.name is not None:
                continue
            kind = self._kind_of(named.name)
            if kind is not None and other.value is not None and _kind(other.value) != kind:
                self._wrong(f"{named.token.text} is a {kind}, this is none", "", other.token)

    def _wrong(self, why: str, remedy: str = "", token: _Token | None = None) -> NoReturn:
        token = token or self._next
        raise _refusal("--where", self._text, token.at, max(len(token.text), 1), why, remedy)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            why = "this quote is not closed" if text[at] in "'\"`" else "this means nothing here"
            raise _refusal("--where", text, at, 1, why)
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(_Token("word" if match[0].lower() in _WORDS else kind, match[0], at))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


def _refusal(option: str, text: str, at: int, length: int, why: str, remedy: str = "") -> Refused:
    shown = re.sub(r"\s", " ", text)  # so that the mark below stands under its place
    return Refused(
        "bad-where",
        f"{option} cannot be read: {why}\n  {shown}\n  {' ' * at}{'^' * length}",
        remedy=remedy or "correct it at the mark; fednode run list --help shows what can be written",
    )


# --- what comparisons say -------------------------------------------------------------------------------------------
def _is_null(side: _Side) -> bool:
    return side.name is None and side.value is None


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, list) else "text"


def _compared(left: Value, sign: str, right: Value, null_meant: bool) -> Truth:
    """A list equals what is in it: `tags = 'pilot'`. Values of two kinds are unequal, and in no order."""
    if null_meant:
        return (left is None and right is None) == (sign in ("=", "=="))
    if left is None or right is None:
        return None
    if sign in ("=", "=="):
        return _equal(left, right)
    if sign in ("!=", "<>"):
        return not _equal(left, right)
    if _kind(left) != _kind(right) or _kind(left) not in ("number", "text"):
        return None
    less, equal = left < right, left == right
    truths: dict[str, bool] = {"<": less, "<=": less or equal, ">": not less and not equal, ">=": not less}
    return truths[sign]


def _equal(left: Value, right: Value) -> bool:
    if _kind(left) == _kind(right):
        return bool(left == right)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, list):
            return any(_equal(entry, other) for entry in one)
    return False


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _or(truths: Sequence[Truth]) -> Truth:
    return True if True in truths else None if None in truths else False
