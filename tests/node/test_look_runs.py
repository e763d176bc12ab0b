"""Looking at runs from the command line, over a store's file: listed, compared, plotted, written into files."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result
from look_store import DAY, HOSTILE, NODES, RUNS, accuracy, make_store
from memory_service import serving
from test_look_drawn import pixels_of

from node.cli import cli
from node.cli.plot import coloured
from tracker.store import Store
from tracker.tables.rows import iso

A, B, C = RUNS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("look") / "record.duckdb")


def run(*arguments: str | Path, width: int = 120) -> Result:
    environment = {"COLUMNS": str(width), "LINES": "40"}
    return CliRunner().invoke(cli, [str(each) for each in arguments], env=environment, prog_name="fednode")


def done(*arguments: str | Path, width: int = 120) -> Result:
    result = run(*arguments, width=width)
    assert result.exit_code == 0, result.output
    return result


# --- run list --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [C, B, A]),
        (["--where", "accuracy > 0.3 and params.learning_rate < 0.2 and state = 'FINISHED'"], [A]),
        (["--where", "accuracy > 0.3 and params.lr < 0.2"], [B, A]),  # as FedML and Synergos call it
        (["--where", "params.training.learning_rate <= 0.01 or state = 'PROPOSED'"], [C, B]),
        (["--where", "accuracy = null"], [C]),
        (["--where", "not accuracy > 0.5"], [A]),  # of C nothing is known
        (["--where", "metrics.loss < 2 and metrics.accuracy >= 0.55"], [B]),
        (["--where", "params.`odd key` = 3 and tags = 'pilot'"], [A]),
        (["--where", "created_at < '2027-01-15T08:01'"], [A]),
        (["--where", f"params.parent = '{A}'"], [B]),
        (["--sort", "accuracy"], [A, B, C]),
        (["--sort", "-accuracy"], [B, A, C]),
        (["--sort", "-params.learning_rate", "--limit", "2"], [C, A]),
        (["--sort", "state,name"], [B, A, C]),
        (["--project", "p"], [B, A]),
        (["--project", "nowhere"], []),
        (["--tag", "pilot", "--tag", "wide"], [B]),
        (["--tag", "pilot", "--where", "round >= 3", "--sort", "-loss,accuracy", "--limit", "1"], [A]),
    ],
)
def test_which_runs_are_listed(store: Path, options: list[str], expected: list[str]) -> None:
    told = json.loads(done("run", "list", "--store", store, "--json", *options).stdout)
    assert [each["run_id"] for each in told] == expected


def test_values_that_were_asked_about_are_shown(store: Path) -> None:
    wanted = ("run", "list", "--store", store, "--where", "metrics.loss > 0 and tags != null", "--sort", "accuracy")
    (first, second) = json.loads(done(*wanted, "--json").stdout)
    assert first["values"] == {"metrics.loss": pytest.approx(4 / 3), "params.tags": ["pilot"], "accuracy": 0.35}
    assert second["values"]["params.tags"] == ["pilot", "wide"]
    head, *rows = done(*wanted).stdout.splitlines()
    assert head.split()[-2:] == ["metrics.loss", "params.tags"]
    assert rows[1].endswith("1.333         pilot, wide")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--where", "accuracy > 0.9 && loss < 1"], "\n  accuracy > 0.9 && loss < 1\n                 ^\n"),
        (["--where", "params.lerning_rate = 1"], "do you mean training.learning_rate?"),
        (["--where", "metrics.f1 > 0"], "no run has the measurement f1. Known are accuracy, loss"),
        (["--where", "acc > 0"], "there is no acc. Known are params.KEY, metrics.KEY, tags, accuracy"),
        (["--sort", "-acuracy"], "do you mean accuracy?"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(store: Path, options: list[str], said: str) -> None:
    result = run("run", "list", "--store", store, *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_of_an_empty_record_no_name_is_wrong(tmp_path: Path) -> None:
    Store(tmp_path / "empty.duckdb").close()
    for where in ("params.learning_rate > 1", "metrics.f1 = 1 or tags = 'x'"):
        assert done("run", "list", "--store", tmp_path / "empty.duckdb", "--json", "--where", where).stdout == "[]\n"


@pytest.mark.parametrize(
    ("environment", "tty", "expected"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False), ({}, False, False)],
)
def test_colours_are_for_terminals_that_want_them(
    environment: dict[str, str], tty: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"NO_COLOR": "", "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    assert coloured() is expected


def test_nothing_that_fits_is_said(store: Path) -> None:
    assert "No run fits that." in done("run", "list", "--store", store, "--where", "loss > 99").stderr


def test_a_running_node_is_asked_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNODE_HOME", str(tmp_path / "home"))
    with serving(tmp_path / "home") as service:
        from memory_service import run_json

        service.all_runs = {name: run_json(name, accuracy=value) for name, value in (("a", 0.5), ("b", 0.9))}
        told = json.loads(done("run", "list", "--where", "accuracy > 0.6", "--json").stdout)
    assert [each["name"] for each in told] == ["b"]


# --- run compare -----------------------------------------------------------------------------------------------
def test_runs_side_by_side(store: Path) -> None:
    told = json.loads(done("run", "compare", A, B, "--store", store, "--json").stdout)
    assert told["parameters"] == {
        "parent": {A: "", B: A},
        "tags": {A: ["pilot"], B: ["pilot", "wide"]},
        "task.parameters.odd key": {A: 3, B: "x"},
        "training.learning_rate": {A: 0.1, B: 0.01},
    }
    outcome = told["outcomes"][B]
    assert outcome["accuracy"] == pytest.approx(sum(accuracy(1, node, 3) for node in range(3)) / 3)
    assert outcome | {"accuracy": 0, "loss": 0} == {
        "state": "FAILED", "rounds": "3/3", "nodes": 3, "accuracy": 0, "loss": 0, "seconds in all": 35.0,
        "seconds a round": 6.0, "bytes moved here": 3000, "updates refused": 1, "elections": 2, "aggregators": 2,
    }  # fmt: skip
    points = told["curves"]["accuracy"][A]
    assert [place for place, _ in points] == [1, 2, 3]
    assert [value for _, value in points] == pytest.approx([0.15, 0.25, 0.35])
    assert list(told["curves"]) == ["accuracy", "loss"]


@pytest.mark.parametrize("width", [70, 140])
def test_charts_stand_side_by_side_where_there_is_room(store: Path, width: int) -> None:
    text = done("run", "compare", A[:8], B[:8], C[:8], "--store", store, width=width).stdout
    lines = text.splitlines()
    assert "PARAMETER" in lines[1]
    assert lines[1].split()[1:4] == ["A", "study", A[:12]]
    together = [line for line in lines if line.startswith("accuracy") and "loss" in line]
    assert len(together) == (width == 140)
    chart = lines[[n for n, line in enumerate(lines) if line.startswith("accuracy")][-1] :]
    assert all(len(line) <= width for line in chart)
    assert any("━" not in line and "─B" in line for line in chart)
    assert "\x1b" not in text


def test_what_cannot_be_compared(store: Path) -> None:
    assert run("run", "compare", A, "--store", store).exit_code == 2
    assert "all the same run" in run("run", "compare", A, A[:8], "--store", store).stderr
    result = run("run", "compare", A, B, "--metric", "f1", "--store", store)
    assert (result.exit_code, "there are: accuracy, loss" in result.stderr) == (4, True)
    assert run("run", "compare", A, "nobody", "--store", store).exit_code == 1


# --- run plot --------------------------------------------------------------------------------------------------
def plotted(store: Path, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(done("run", "plot", A, "--store", store, "--json", *options).stdout)
    return told


def test_curves_by_round_time_and_step(store: Path) -> None:
    by_round = plotted(store)
    assert by_round["series"][0]["name"] == "mean"
    assert len(by_round["series"]) == 1 + len(NODES)
    assert by_round["series"][0]["points"] == [
        [1, pytest.approx(0.15)],
        [2, pytest.approx(0.25)],
        [3, pytest.approx(0.35)],
    ]
    by_time = plotted(store, "--x", "time", "--node", "cy")
    assert by_time["unit"] == "time, s"
    assert by_time["series"] == [{"name": "cy", "points": [[5.0, 0.2], [15.0, 0.3], [25.0, 0.4]]}]
    by_step = plotted(store, "--x", "step", "--metric", "loss")
    assert by_step["scope"] == "local"
    (ada,) = by_step["series"]
    assert [place for place, _ in ada["points"]] == list(range(1, 10))
    assert ada["points"][3][1] == pytest.approx(2.0 - 0.1 * 7)


def test_the_round_of_a_live_curve_is_its_last_step(store: Path) -> None:
    told = plotted(store, "--metric", "loss", "--scope", "local", "--node", "n1")
    assert [value for _, value in told["series"][0]["points"]] == pytest.approx([1.4, 1.1, 0.8])


def test_a_plot_in_the_terminal(store: Path) -> None:
    for width in (40, 100):
        result = done("run", "plot", A, "--store", store, width=width)
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= width
        assert "\x1b" not in result.stdout
        assert any("mean" in line and "A" in line for line in lines)
    assert max(map(len, lines)) > 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "f1"], "name one of accuracy, loss"),
        (["--node", "zed"], "name one of"),
        (["--metric", "accuracy", "--x", "step"], "--scope global"),
        (["--metric", "loss", "--scope", "global", "--x", "step"], "--x round or time"),
        (["-o", "curve.pdf"], "neither .svg nor .png"),
        (["-o", "/no/such/folder/curve.png"], "cannot be written: No such file"),
    ],
)
def test_what_cannot_be_plotted(store: Path, options: list[str], said: str) -> None:
    result = run("run", "plot", A, "--store", store, *options)
    assert result.exit_code in (2, 4)
    assert said in result.stderr


def test_pictures_for_papers(store: Path, tmp_path: Path) -> None:
    picture = tmp_path / "loss.svg"
    assert "is written" in done("run", "plot", A, "--store", store, "--metric", "loss", "-o", picture).stdout
    text = picture.read_text()
    assert "loss of the shared model" in text
    assert "<script" not in text.lower()
    told = json.loads(done("run", "plot", A, "--store", store, "-o", tmp_path / "a.PNG", "--json").stdout)
    file = (tmp_path / "a.PNG").read_bytes()
    assert told["bytes"] == len(file)
    assert pixels_of(file).shape == (640, 1440, 3)


# --- sql into files --------------------------------------------------------------------------------------------
STATEMENT = "SELECT name, rounds, created_at, NULL AS n, [1, 2] AS list, rounds > 1 AS many, 0.5::DOUBLE AS d FROM runs"


def test_csv_and_json_to_the_screen(store: Path) -> None:
    text = done("sql", f"{STATEMENT} ORDER BY run_id", "--store", store, "--format", "csv").stdout
    head, first, second, third = csv.reader(io.StringIO(text))
    assert head == ["name", "rounds", "created_at", "n", "list", "many", "d"]
    assert first == [*second[:2], iso(DAY), "", "[1, 2]", "true", "0.5"]
    assert third[0] == HOSTILE
    told = json.loads(done("sql", "SELECT 1 AS a, 'x' AS a, 2 AS A", "--store", store, "--format", "json").stdout)
    assert told == [{"a": 1, "a_1": "x", "A_2": 2}]
    assert json.loads(done("sql", "SELECT 1 WHERE false", "--store", store, "--format", "json").stdout) == []


@pytest.mark.filterwarnings("ignore")
def test_parquet_keeps_the_types(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "it's.parquet"
    extra = ", 'ab'::BLOB AS b, {'k': 1} AS s, 1.25::DECIMAL(9, 2) AS e, DATE '2026-01-02' AS day"
    done("sql", STATEMENT.replace(" FROM", f"{extra} FROM") + " ORDER BY run_id", "--store", store, "-o", file)
    connection = duckdb.connect()
    relation = connection.read_parquet(str(file))
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert types["rounds"] == "INTEGER"
    assert types["created_at"] == "TIMESTAMP"
    assert (types["list"], types["many"], types["d"], types["b"]) == ("INTEGER[]", "BOOLEAN", "DOUBLE", "BLOB")
    row = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    assert (row["list"], row["s"], row["b"], row["n"], str(row["e"])) == ([1, 2], {"k": 1}, b"ab", None, "1.25")
    assert row["created_at"].isoformat() + ".000000Z" == iso(DAY)
    connection.close()


EXACT = {  # SQL, its text in a CSV file, its type in Parquet
    "big": ("9223372036854775807 + 1::HUGEINT", "9223372036854775808", "DECIMAL(38,0)"),
    "fine": ("1.234567890123456789::DECIMAL(30, 18)", "1.234567890123456789", "DECIMAL(30,18)"),
    "nan": ("'nan'::DOUBLE", "nan", "DOUBLE"),
    "inf": ("'-inf'::DOUBLE", "-inf", "DOUBLE"),
    "third": ("1 / 3", "0.3333333333333333", "DOUBLE"),
    "length": ("INTERVAL 3 DAYS", "3 days", "INTERVAL"),
    "values": ("['nan'::DOUBLE, NULL, 1.5]", "[nan, NULL, 1.5]", "DOUBLE[]"),
    "times": ("[TIMESTAMP '2026-01-02 03:04:05.5']", '["2026-01-02T03:04:05.500000Z"]', "TIMESTAMP[]"),
    "words": ("{'a': 'it''s \"q\", [1]', 'b': NULL}", '{"a": "it\'s \\"q\\", [1]", "b": null}', ""),
    "nothing": ("NULL", "", ""),
}


def test_files_keep_every_bit(store: Path, tmp_path: Path) -> None:
    statement = "SELECT " + ", ".join(f"{sql} AS {name}" for name, (sql, _, _) in EXACT.items()) + " -- and no more"
    for name in ("csv", "parquet"):
        done("sql", statement, "--store", store, "-o", tmp_path / f"exact.{name}")
    (found,) = csv.DictReader((tmp_path / "exact.csv").open())
    assert found == {name: text for name, (_, text, _) in EXACT.items()}
    connection = duckdb.connect()
    relation = connection.read_parquet(str(tmp_path / "exact.parquet"))
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert {name: types[name] for name, (_, _, kind) in EXACT.items() if kind} == {
        name: kind for name, (_, _, kind) in EXACT.items() if kind
    }
    statement = statement.removesuffix(" -- and no more")
    columns = "big::DECIMAL(38, 0), * EXCLUDE (big)"
    assert repr(relation.fetchall()) == repr(connection.execute(f"SELECT {columns} FROM ({statement})").fetchall())
    connection.close()


def test_files_keep_the_order_of_the_statement(store: Path) -> None:
    text = done(
        "sql", "SELECT range FROM range(5000) ORDER BY -range;", "--store", store, "--format", "csv", "--rows", "5000"
    )
    assert text.stdout.split()[1:] == [str(number) for number in range(4999, -1, -1)]


def test_a_whole_table_comes_through_parquet(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "metrics.parquet"
    told = json.loads(done("sql", "FROM metrics", "--store", store, "-o", file, "--json").stdout)
    connection = duckdb.connect()
    assert connection.execute("SELECT count(*), sum(value) FROM read_parquet(?)", [str(file)]).fetchone() == (
        told["rows"],
        pytest.approx(sum(row[0] for row in json.loads(
            done("sql", "SELECT value FROM metrics", "--store", store, "--json").stdout)["rows"])),
    )  # fmt: skip
    connection.close()
    assert told["truncated"] is False


def test_statements_without_types_and_empty_answers(store: Path, tmp_path: Path) -> None:
    for name, statement in (("show", "SHOW TABLES"), ("none", "SELECT * FROM runs WHERE false")):
        done("sql", statement, "--store", store, "-o", tmp_path / f"{name}.parquet")
        assert (tmp_path / f"{name}.parquet").read_bytes()[:4] == b"PAR1"


def test_files_and_their_limits(store: Path, tmp_path: Path) -> None:
    assert "name its file" in run("sql", "SELECT 1", "--store", store, "--format", "parquet").stderr
    file = tmp_path / "some.csv"
    result = done("sql", "FROM metrics", "--store", store, "-o", file, "--rows", "2")
    assert file.read_text().count("\n") == 3
    assert "more than 2 rows" in result.stderr
    assert "end it with .csv" in run("sql", "FROM runs", "--store", store, "-o", tmp_path / "plain.txt").stderr
    done("sql", "FROM runs", "--store", store, "-o", tmp_path / "plain.txt", "--format", "table")
    assert "\x1b" not in (tmp_path / "plain.txt").read_text()
    assert run("sql", "SELECT 1", "--store", store, "-o", "/no/such/folder/x.csv").exit_code == 4
    assert run("sql", "SELECT 1", "--store", store, "-o", "/no/such/folder/x.parquet").exit_code == 4
    assert run("sql", "DROP TABLE runs", "--store", store, "-o", file).exit_code == 4
