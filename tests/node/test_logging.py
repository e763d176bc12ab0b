"""What fednode.log and its like hand to their listener, by the names of MLflow and FedML, and that alone they do
nothing."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fednode
from fednode import TaskError
from fednode_artifacts import artifact_name
from fednode_logging import (
    METRIC_VALUES_MAX,
    Logged,
    LoggedArtifact,
    LoggedMetrics,
    LoggedParameters,
    LoggedSpan,
    class_key,
    flat_metrics,
    listening,
    split_class,
)


class Figure:
    """Draws as matplotlib's figures do."""

    def savefig(self, file: Any, format: str) -> None:
        file.write(f"drawn as {format}".encode())


class Image:
    """Is saved as PIL's images are."""

    def save(self, file: Any, format: str) -> None:
        file.write(f"saved as {format}".encode())


class Page:
    """Is written as plotly's figures are."""

    def to_html(self) -> str:
        return "<b>page</b>"


class Broken:
    def savefig(self, file: Any, format: str) -> None:
        raise RuntimeError("no fonts")


@pytest.fixture
def heard() -> Any:
    found: list[Logged] = []
    with listening(found.append):
        yield found


def artifact(name: str, content: bytes | Path, kind: str = "file", details: str = "{}") -> LoggedArtifact:
    return LoggedArtifact(name, kind, content, details)


# --- alone -------------------------------------------------------------------------------------------------------
def test_outside_a_run_nothing_happens_and_nothing_is_looked_at():
    fednode.log({"loss": object()}, step="x")  # type: ignore[arg-type]
    fednode.log_metric("loss", "high")
    fednode.log_metrics(5)  # type: ignore[arg-type]
    fednode.log_param("a", object())
    fednode.log_params(5)  # type: ignore[arg-type]
    fednode.log_artifact("/nowhere")
    fednode.log_artifacts("/nowhere")
    fednode.log_text(5, "")  # type: ignore[arg-type]
    fednode.log_dict(object(), "")
    fednode.log_figure(Broken(), "")
    fednode.event("train")
    fednode.event("train", event_started=False)
    with fednode.span("x"):
        pass


def test_a_span_decorates_a_function_and_lets_its_exception_pass(heard):
    ticks = iter(range(10))
    found: list[Logged] = []

    @fednode.span("work")
    def work(value: int) -> int:
        return 1 // value

    with listening(found.append, clock=lambda: float(next(ticks))):
        assert work(1) == 1
        with pytest.raises(ZeroDivisionError):
            work(0)
    assert found == [LoggedSpan("work", 1.0)] * 2
    assert work(1) == 1
    assert [type(entry) for entry in heard] == [LoggedSpan]


# --- metrics -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.array(0.5), np.array([0.5]), torch.tensor(0.5, requires_grad=True)]
)
def test_numbers_of_all_kinds_are_numbers(value):
    one = flat_metrics({"a": value})
    assert one in ({"a": 0.5}, {"a@class=0": 0.5})
    assert isinstance(next(iter(one.values())), float)
    assert (len(getattr(value, "shape", ())) == 1) == ("a@class=0" in one)


@pytest.mark.parametrize(
    "values",
    [{"cat": 1, "dog": 2}, {"cat": np.float32(1), "dog": torch.tensor(2)}],
)
def test_a_mapping_is_a_figure_for_each_class(values):
    assert flat_metrics({"recall": values}) == {"recall@class=cat": 1.0, "recall@class=dog": 2.0}


@pytest.mark.parametrize("values", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1.0, 2.0])])
def test_a_sequence_is_a_figure_for_each_class(values):
    assert flat_metrics({"recall": values}) == {"recall@class=0": 1.0, "recall@class=1": 2.0}


@pytest.mark.parametrize("label", ["cat", 3, "a@class=b", "", "ü"])
def test_a_name_with_a_class_comes_apart_again(label):
    assert split_class(class_key("recall@10", label)) == ("recall@10", str(label))
    assert split_class("recall@10") == ("recall@10", None)
    name = class_key("recall", label)
    assert list(flat_metrics({name: 1})) == [name]


@pytest.mark.parametrize(
    "values",
    [{"a": "high"}, {"a": "1.5"}, {"a": None}, {"a": {"b": {"c": 1}}}, {"a": torch.eye(2)}, {"a": 1j}, {"": 1}],
)
def test_what_is_no_number_is_refused_by_name(heard, values):
    with pytest.raises(TaskError) as error:
        fednode.log(values)
    assert "metric" in error.value.what
    assert heard == []


def test_too_many_values_are_cut_and_said_once(heard, caplog):
    for _ in range(3):
        fednode.log({"all": np.arange(METRIC_VALUES_MAX + 5), "more": 1})
    assert [len(entry.values) for entry in heard] == [METRIC_VALUES_MAX] * 3
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["Metrics left out"]


def test_mlflows_names(heard):
    fednode.log_metric("loss", 0.5, step=3)
    fednode.log_metrics({"loss": 0.25, "accuracy": 1}, step=4)
    fednode.log_param("layers", [64, 32])
    fednode.log_params({"name": "mlp", "rate": np.float64(0.5), "on": True, "odd": Path("x"), "k" * 300: None})
    assert heard == [
        LoggedMetrics({"loss": 0.5}, 3),
        LoggedMetrics({"loss": 0.25, "accuracy": 1.0}, 4),
        LoggedParameters({"layers": ("[64, 32]", "list")}),
        LoggedParameters(
            {
                "name": ("mlp", "str"),
                "rate": ("0.5", "float"),
                "on": ("true", "bool"),
                "odd": ('"x"', "PosixPath"),
                "k" * 250: ("null", "NoneType"),
            }
        ),
    ]


def test_fedmls_habits(heard):
    fednode.log({"acc": 0.5, "batch": 12}, customized_step_key="batch")
    fednode.log({"acc": 0.5, "epoch": 2}, step=9, customized_step_key="epoch")
    fednode.log({"a": 1, "b": 1}, commit=False)
    fednode.log({"b": 2}, commit=False)
    fednode.log({"c": 3}, step=5)
    fednode.log({"d": 4}, commit=False)
    assert heard == [
        LoggedMetrics({"acc": 0.5}, 12),
        LoggedMetrics({"acc": 0.5}, 9, 2),
        LoggedMetrics({"a": 1.0, "b": 2.0, "c": 3.0}, 5),
    ]


def test_what_was_held_back_is_sent_when_the_round_ends():
    found: list[Logged] = []
    with listening(found.append):
        fednode.log({"d": 4}, commit=False)
    with listening(found.append):
        fednode.log({"e": 5})
    assert found == [LoggedMetrics({"d": 4.0}), LoggedMetrics({"e": 5.0})]


@pytest.mark.parametrize("place", [{"step": -1}, {"epoch": math.nan}, {"step": "x"}, {"step": math.inf}])
def test_a_place_is_a_count(heard, place):
    with pytest.raises(TaskError):
        fednode.log({"a": 1}, **place)


def test_events_of_fedml_are_spans():
    ticks = iter(range(100))
    found: list[Logged] = []
    with listening(found.append, clock=lambda: float(next(ticks))):
        fednode.event("train", event_started=True, event_value="1")
        fednode.event("train", event_started=True, event_value="2")
        fednode.event("train", event_started=False, event_value="1")
        fednode.event("never begun", event_started=False)
    assert found == [LoggedSpan("train", 2.0)]


def test_threads_log_side_by_side(heard):
    def work(number: int) -> None:
        for _ in range(200):
            fednode.log({f"of {number}": 1}, commit=False)
            fednode.log({f"of {number}": 2})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 800
    assert all(entry.values[f"of {n}"] in (1.0, 2.0) for entry in heard for n in range(4) if f"of {n}" in entry.values)


# --- artifacts ---------------------------------------------------------------------------------------------------
def test_files_bytes_texts_and_dictionaries(heard, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("content")
    fednode.log_artifact(file)
    fednode.log_artifact(str(file), "kept/as.txt", kind="note", details={"round": 3})
    fednode.log_artifact(b"raw", "raw.bin")
    fednode.log_artifact(bytearray(b"raw"), name="again.bin")
    fednode.log_text("ü\ud800", "text.txt")
    fednode.log_dict({"a": np.arange(2), "b": {3: None}}, "d.json")
    assert heard == [
        artifact("a.txt", file),
        artifact("kept/as.txt", file, "note", '{"round": 3}'),
        artifact("raw.bin", b"raw"),
        artifact("again.bin", b"raw"),
        artifact("text.txt", "ü?".encode(), "text"),
        artifact("d.json", json.dumps({"a": [0, 1], "b": {"3": None}}, indent=2).encode(), "json"),
    ]


def test_folders_and_fedmls_artifacts(heard, tmp_path, caplog):
    for name in ("b/c.txt", "a.txt", ".hidden", "b/.git/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    fednode.log_artifacts(tmp_path, "all")
    made = fednode.Artifact("model", type="model", details={"of": 1})
    made.add_file(tmp_path / "a.txt", "first.txt")
    made.add_dir(tmp_path / "b")
    fednode.log_artifact(made)
    fednode.log_artifacts(tmp_path / "nothing")
    assert heard == [
        artifact("all/a.txt", tmp_path / "a.txt"),
        artifact("all/b/c.txt", tmp_path / "b/c.txt"),
        artifact("model/first.txt", tmp_path / "a.txt", "model", '{"of": 1}'),
        artifact("model/c.txt", tmp_path / "b/c.txt", "model", '{"of": 1}'),
    ]
    assert ["nothing left out" in record.getMessage() for record in caplog.records] == [True]


def test_figures_are_drawn_without_their_library_being_known(heard, caplog):
    fednode.log_figure(Figure(), "plots/loss")
    fednode.log_figure(Figure(), "loss.svg")
    fednode.log_figure(Image(), "picture.jpg")
    fednode.log_figure(Page(), "page")
    fednode.log_figure(Broken(), "broken.png")
    assert heard == [
        artifact("plots/loss.png", b"drawn as png", "figure"),
        artifact("loss.svg", b"drawn as svg", "figure"),
        artifact("picture.jpg", b"saved as jpeg", "figure"),
        artifact("page.html", b"<b>page</b>", "figure"),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "The figure broken.png left out: it could not be drawn (RuntimeError: no fonts)"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.b",
        "a\\b",
        "a\nb",
        "a\u202eb",
        "a\x00b",
        "x" * 201,
        "/".join("abcdefghi"),
        " a",
        "a /b",
    ],
)
def test_names_that_lead_elsewhere_are_refused(heard, name):
    with pytest.raises(ValueError):
        artifact_name(name)
    with pytest.raises(TaskError, match="cannot be kept as an artifact"):
        fednode.log_artifact(b"x", name)


@pytest.mark.parametrize("name", ["a", "plots/Übersicht 1.png", "-x", "a.b.c", "x" * 200])
def test_ordinary_names_are_taken(name):
    assert artifact_name(name) == name


def test_other_misuse_is_refused(heard):
    for call in (
        lambda: fednode.log_artifact(5),  # type: ignore[arg-type]
        lambda: fednode.log_artifact(b"x"),
        lambda: fednode.log_artifact(b"x", "x", details=5),  # type: ignore[arg-type]
        lambda: fednode.log_figure("x", "x"),
        lambda: fednode.log(5),  # type: ignore[arg-type]
        lambda: fednode.log_params(5),  # type: ignore[arg-type]
    ):
        with pytest.raises(TaskError):
            call()
    assert heard == []
