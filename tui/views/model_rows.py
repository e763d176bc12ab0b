"""The registry's models, what is known of one, and what tasks have made, as rows."""

from collections.abc import Mapping

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import bytes_text, date_text, value_text
from tui.facts.fields import Json, items, measure, moment, number, object_of, text, texts

MODEL_COLUMNS = (
    Column("model", 8, 24),
    Column("version", 7, 7, 3, right=True),
    Column("aliases", 8, 24, 2),
    Column("accuracy", 8, 8, 1, right=True),
    Column("run", 10, 24, 4),
    Column("round", 5, 5, 5, right=True),
    Column("size", 8, 8, 7, right=True),
    Column("here", 6, 6, 6),
)
FACT_COLUMNS = (Column("of the model", 14, 18), Column("", 2_000, 2_000))
ARTIFACT_COLUMNS = (
    Column("artifact", 10, 40),
    Column("kind", 6, 12, 4),
    Column("size", 8, 8, 1, right=True),
    Column("round", 5, 5, 3, right=True),
    Column("run", 8, 24, 2),
    Column("node", 8, 16, 5),
    Column("made", 16, 16, 6),
    Column("details", 12, 400, 7),
)
HERE = {True: Cell("✓ yes", "good"), False: Cell("✗ gone", "warn")}
UNKNOWN = Cell("– ?", "dim")  # a record does not know which blobs lie beside it


def model_key(model: Json) -> str:
    """What the model is called in a path of the local API: by name and version, or by run and round."""
    name = text(model, "name")
    return f"{name}@{number(model, 'version')}" if name else f"{text(model, 'run_id')}:{number(model, 'round')}"


def model_rows(answer: Json) -> ListRows:
    """What GET /v1/models tells; models that have no name come under their run's."""
    return ListRows(_model(each) for each in items(answer, "models"))


def unnamed_rows(answer: Json) -> ListRows:
    """Of a run's models those that have no name."""
    return ListRows(_model(each) for each in items(answer, "models") if not items(each, "names"))


def _model(told: Json) -> Row:
    name = text(told, "name")
    return Row(
        model_key(told),
        (
            Cell(name, "strong") if name else Cell("no name", "dim"),
            Cell(str(number(told, "version")) if name else "–"),
            Cell(", ".join(f"@{alias}" for alias in texts(told, "aliases")), "accent"),
            Cell(value_text(measure(told, "accuracy"))),
            Cell(text(told, "run") or text(told, "run_id")[:8]),
            Cell(str(number(told, "round"))),
            Cell(bytes_text(number(told, "bytes"))),
            _here(told),
        ),
    )


def _here(told: Json) -> Cell:
    here = told.get("here")
    return HERE[here] if isinstance(here, bool) else UNKNOWN


def fact_rows(answer: Json, names: Mapping[str, str]) -> ListRows:
    """What GET /v1/models/{model} tells: the model, where it comes from, and what was measured of it."""
    lineage = object_of(answer, "lineage")
    rows = _own_facts(answer) + [_evaluation(each) for each in items(answer, "evaluations")]
    rows += _lineage_facts(lineage, names) if lineage else []
    rows += [(key, Cell(text(answer, key), "dim")) for key in ("model", "checkpoint", "schema") if text(answer, key)]
    return ListRows(Row(f"{at} {name}", (Cell(name, "dim"), cell)) for at, (name, cell) in enumerate(rows))


Fact = tuple[str, Cell]


def _own_facts(told: Json) -> list[Fact]:
    names = [
        f"{text(each, 'name')}:{number(each, 'version')}" + "".join(f" @{alias}" for alias in texts(each, "aliases"))
        for each in items(told, "names")
    ]
    measured = f"over the held-out data of {number(told, 'measured_by')} nodes"
    facts = [
        ("names", Cell(", ".join(names), "strong")),
        ("run", Cell(f"{text(told, 'run')}, round {number(told, 'round')}  ({text(told, 'run_id')})")),
        ("accuracy", Cell(_with(measure(told, "accuracy"), measured))),
        ("loss", Cell(_with(measure(told, "loss"), measured))),
        ("committed", Cell(date_text(moment(told, "time")))),
        ("its blobs", _blobs(told)),
    ]
    return [(name, cell) for name, cell in facts if cell.text] if told else []


def _blobs(told: Json) -> Cell:
    words = {True: Cell("✓ are here", "good"), False: Cell("✗ are not here any more", "warn")}
    here = told.get("here")
    return words[here] if isinstance(here, bool) else Cell("a record does not say whether they are here", "dim")


def _with(value: float | None, words: str) -> str:
    return "" if value is None else f"{value_text(value)}  {words}"


def _lineage_facts(told: Json, names: Mapping[str, str]) -> list[Fact]:
    def name(key: str) -> str:
        node = text(told, key)
        return names.get(node, node[-8:])

    given = object_of(told, "task_parameters")
    facts = [
        ("project", f"{text(told, 'project')} / {text(told, 'experiment')}"),
        ("task", text(told, "task")),
        ("task's hash", text(told, "task_hash")),
        ("parameters", ", ".join(f"{key} = {text(given, key)}" for key in sorted(given))),
        ("goes on from", text(told, "parent")),
        ("seed", text(told, "seed")),
        ("proposed by", name("proposer")),
        ("combined by", f"{name('aggregator')}, term {number(told, 'term')}" if text(told, "aggregator") else ""),
        ("updates used", text(told, "updates_used")),
    ]
    return [(name, Cell(value)) for name, value in facts if value] + [_data(each) for each in items(told, "data")]


def _data(told: Json) -> Fact:
    who = text(told, "name") or text(told, "node_id")[-8:]
    what = f"{number(told, 'samples'):,} samples, fingerprint {text(told, 'data_fingerprint')[:16] or '–'}"
    return "data of", Cell(f"{who} ({text(told, 'role')}): {what}")


def _evaluation(told: Json) -> Fact:
    values = object_of(told, "metrics")
    figures = ", ".join(f"{key} {value_text(measure(values, key))}" for key in sorted(values))
    rows = f"{number(told, 'samples'):,} samples, {text(told, 'rows')}"
    return "evaluated", Cell(f"{figures} on {text(told, 'data')} ({rows}), {date_text(moment(told, 'time'))}", "strong")


def artifact_rows(answer: Json, run_names: Mapping[str, str]) -> ListRows:
    """What GET /v1/artifacts tells, of all runs or of one."""
    return ListRows(_artifact(each, run_names) for each in items(answer, "artifacts"))


def _artifact(told: Json, run_names: Mapping[str, str]) -> Row:
    run, details = text(told, "run_id"), object_of(told, "details")
    words = ", ".join(f"{key} {text(details, key)}" for key in sorted(details))
    return Row(
        f"{run} {text(told, 'node_id')} {text(told, 'name')}",
        (
            Cell(text(told, "name"), "strong"),
            Cell(text(told, "kind")),
            Cell(bytes_text(number(told, "bytes"))),
            Cell(str(number(told, "round"))),
            Cell(run_names.get(run, run[:8])),
            Cell(text(told, "node_name") or text(told, "node_id")[-8:], "dim"),
            Cell(date_text(moment(told, "time")), "dim"),
            Cell(words, "dim"),
        ),
    )
