"""The words of --where and --sort: what they say of a run, against Python's own; errors point at the place."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli.look import _key, kind_of
from node.cli.look_where import DEPTH_MAX, Truth, in_order, parse, parse_sort
from protocol.errors import Refused

NAMES = ("accuracy", "loss", "params.rate", "params.a-b", "state", "name")
NUMBERS = NAMES[:4]
SIGNS = {"=": "==", "==": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def resolve(written: str) -> str:
    name = written.replace("`", "")
    if name not in NAMES:
        raise LookupError(f"there is no {name}")
    return name


def says(text: str, run: dict[str, Any]) -> Truth:
    return parse(text, resolve, kind_of).holds(run.get)


# --- against Python ------------------------------------------------------------------------------------------------
numbers = st.one_of(st.integers(-5, 5), st.sampled_from([-1.5, 0.0, 0.5, 1e3, 2.5e-3]))
texts = st.sampled_from(["", "FINISHED", "it's", 'a "b"', "x y", "Größe", "and", "0.5"])


def quoted(value: Any) -> str:
    return repr(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"


@st.composite
def comparisons(draw: Any) -> tuple[str, str]:
    """One comparison in our words, and in Python's."""
    name = draw(st.sampled_from(NAMES))
    values = numbers if name in NUMBERS else texts
    mine, theirs = name, f"run[{name!r}]"
    if draw(st.booleans()):
        chosen = draw(st.lists(values, min_size=1, max_size=3))
        negated = draw(st.sampled_from(["in", "not in", "NOT  In"]))
        listed = ", ".join(map(quoted, chosen))
        return f"{mine} {negated} ({listed})", f"({theirs} {negated.lower().replace('  ', ' ')} {chosen!r})"
    sign = draw(st.sampled_from(sorted(SIGNS)))
    if draw(st.booleans()):
        other = draw(st.sampled_from(NUMBERS if name in NUMBERS else NAMES[4:]))
        return f"{mine}{sign}{other}", f"({theirs} {SIGNS[sign]} run[{other!r}])"
    value = draw(values)
    if draw(st.booleans()):
        return f"{quoted(value)} {sign} {mine}", f"({value!r} {SIGNS[sign]} {theirs})"
    return f"{mine} {sign} {quoted(value)}", f"({theirs} {SIGNS[sign]} {value!r})"


def nested(inner: Any) -> Any:
    both = st.tuples(inner, st.sampled_from(["and", "or", "AND", "Or"]), inner)
    joined = both.map(lambda p: (f"{p[0][0]} {p[1]} {p[2][0]}", f"{p[0][1]} {p[1].lower()} {p[2][1]}"))
    return st.one_of(
        joined,
        inner.map(lambda p: (f"({p[0]})", f"({p[1]})")),
        inner.map(lambda p: (f"not ( {p[0]} )", f"(not ({p[1]}))")),
    )


expressions = st.recursive(comparisons(), nested, max_leaves=8)
values_of = {name: numbers if name in NUMBERS else texts for name in NAMES}
runs = st.fixed_dictionaries(values_of)


@given(expressions, runs)
def test_it_says_what_python_says(expression: tuple[str, str], run: dict[str, Any]) -> None:
    """Precedence too: without parentheses both read the same words."""
    mine, theirs = expression
    assert says(mine, run) is bool(eval(theirs, {"run": run}))  # noqa: S307 - our own text, made above


@given(expressions, runs, runs, st.sets(st.sampled_from(NAMES)))
def test_what_is_surely_so_stays_so_whatever_is_missing(
    expression: tuple[str, str], run: dict[str, Any], other: dict[str, Any], missing: set[str]
) -> None:
    known = {name: None if name in missing else value for name, value in run.items()}
    found = says(expression[0], known)
    if found is not None:
        filled = {name: other[name] if name in missing else value for name, value in run.items()}
        assert says(expression[0], filled) is found


@given(st.text(alphabet="andortui()=<>!'\"`.,-0159e \t_", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(Refused):
        says(text, {})


# --- single rules ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss = null", True),
        ("loss != null", False),
        ("null = loss", True),
        ("accuracy = null", False),
        ("loss > 1", None),
        ("not loss > 1", None),
        ("loss > 1 or accuracy > 0.1", True),
        ("loss > 1 and accuracy < 0.1", False),
        ("loss in (1, null)", True),
        ("params.rate = 'pilot'", True),  # a list has it
        ("params.rate != 'pilot'", False),
        ("params.rate = 'other'", False),
        ("params.rate in ('other', 'pilot')", True),
        ("params.a-b > 3", None),  # a text is in no order with a number
        ("params.a-b = 3", False),
        ("params.`a-b` = 'three'", True),
        ("state = true", True),
        ("state = 1", False),
    ],
)
def test_missing_values_lists_and_kinds(text: str, expected: Truth) -> None:
    run = {"accuracy": 0.5, "loss": None, "params.rate": ["pilot", "x"], "params.a-b": "three", "state": True}
    assert parse(text, resolve, lambda name: None).holds(run.get) is expected


@pytest.mark.parametrize(
    ("text", "marked", "said"),
    [
        ("accuracy > 0.5 adn loss < 1", "adn", "and, or, or the end"),
        ("0.1 < accuracy < 0.9", "< 0.9", "and, or, or the end"),
        ("acuracy > 1", "acuracy", "there is no acuracy"),
        ("accuracy > 'high'", "'high'", "accuracy is a number"),
        ("state = 3", "3", "state is a text"),
        ("state = FINISHED and loss > 1", "FINISHED", "there is no FINISHED"),
        ("accuracy", "", "comparison"),
        ("(accuracy > 1", "", "here should be )"),
        ("accuracy > ", "", "a name or a value"),
        ("accuracy > 1 )", ")", "and, or, or the end"),
        ("name = 'x", "'", "not closed"),
        ("name ~ 'x'", "~", "means nothing"),
        ("loss < null", "null", "neither less nor more"),
        ("state in 'x'", "'x'", "here should be ("),
        ("state in (loss)", "loss", "a number, a text"),
        ("", "", "a name or a value"),
    ],
)
def test_a_mistake_is_shown_at_its_place(text: str, marked: str, said: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(text, resolve, kind_of)
    assert caught.value.code == "bad-where"
    head, shown, mark = caught.value.what.split("\n")
    assert said in head
    assert shown == f"  {text}"
    place = mark.index("^") - 2
    assert text[place:].startswith(marked)
    if marked and marked != "< 0.9":
        assert mark.count("^") == len(marked)


def test_depth_and_length_are_bounded() -> None:
    assert says("(" * (DEPTH_MAX - 1) + "loss = 1" + ")" * (DEPTH_MAX - 1), {"loss": 1}) is True
    for text in ("(" * 3000 + "loss = 1", "not " * 900 + "loss = 1", "loss = 1 or " * 1000 + "loss = 1"):
        with pytest.raises(Refused):
            says(text, {})


def test_sorting_puts_what_is_missing_last_and_keeps_the_order_of_equals() -> None:
    rows = [{"n": 1, "a": 0.5}, {"n": 2, "a": None}, {"n": 3, "a": 0.9}, {"n": 4, "a": 0.5}, {"n": 5, "a": "x"}]

    def order(text: str) -> list[int]:
        found = in_order(rows, parse_sort(text, lambda name: name), lambda row, name: row[name])
        return [row["n"] for row in found]

    assert order("a") == [1, 4, 3, 5, 2]
    assert order("-a, -n") == [5, 3, 4, 1, 2]
    assert order("-a,n") == [5, 3, 1, 4, 2]
    with pytest.raises(Refused, match=r"--sort .*there is no colour"):
        parse_sort("-accuracy,colour", resolve)


def test_keys_are_found_by_their_end() -> None:
    known = ["training.learning_rate", "aggregation.server_learning_rate", "task.name", "data.name"]
    assert _key("learning_rate", known, "parameter") == "training.learning_rate"
    for written, said in (("name", "task.name or data.name"), ("lerning_rate", "do you mean training.learning_rate")):
        with pytest.raises(LookupError, match=said):
            _key(written, known, "parameter")
