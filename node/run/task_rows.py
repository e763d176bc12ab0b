"""What a task of this node's logs, as rows of the record: metrics, parameters, spans.

These are this node's own and leave it with nobody; what all get is in the signed results of rounds.
"""

from collections.abc import Callable, Mapping

from fednode_logging import split_class
from node.seams import TaskOutput
from tracker.tables.rows import MetricRow, NodeParameterRow, SpanRow

PARAMETERS_MAX = 1000  # of one run and node: settings, which people read

TaskRow = MetricRow | NodeParameterRow | SpanRow


class TaskRows:
    """One run's, on this node. `warn` is told what is left out."""

    def __init__(
        self,
        run: str,
        me: str,
        *,
        now: Callable[[], float],
        sequence: Callable[[], int],
        warn: Callable[[str], None],
    ) -> None:
        self._run = run
        self._me = me
        self._now = now
        self._sequence = sequence
        self._warn = warn
        self._parameters: dict[str, tuple[str, str]] = {}  # as they were told last
        self._warned = False

    def of(self, output: TaskOutput) -> list[TaskRow]:
        """The rows of what a task has just told; none for lines and artifacts."""
        match output.kind:
            case "metric":
                return [self._metric(output, *entry) for entry in output.values.items()]
            case "parameter":
                return self._new_parameters(output.parameters)
            case "span":
                place = (self._run, self._me, output.round, f"task.{output.name}", "")
                began = self._now() - output.seconds
                return [SpanRow(*place, began, output.seconds, 0, self._me, self._sequence())]
            case _:
                return []

    def _metric(self, output: TaskOutput, name: str, value: float) -> MetricRow:
        key, label = split_class(name)
        what = (self._run, self._me, "local", output.split, key, label)
        place = (output.round, output.epoch, output.step)
        return MetricRow(*what, *place, value, 0, self._now(), self._me, self._sequence())

    def _new_parameters(self, told: Mapping[str, tuple[str, str]]) -> list[TaskRow]:
        rows: list[TaskRow] = []
        for key, entry in told.items():
            if self._parameters.get(key) == entry:  # told in every round, as a rule
                continue
            if len(self._parameters) >= PARAMETERS_MAX and key not in self._parameters:
                if not self._warned:
                    self._warn(f"parameters beyond {PARAMETERS_MAX} were left out, the first of them {key!r}")
                self._warned = True
                break
            self._parameters[key] = entry
            rows.append(NodeParameterRow(self._run, self._me, key, *entry, self._now()))
        return rows
