"""What a task logs by fednode.log and its like, put into TaskOutput with the place in the round where it was said."""

import threading
from collections.abc import Callable

from fednode_logging import Logged, LoggedArtifact, LoggedMetrics, LoggedParameters, LoggedSpan, leave_out
from node.seams import StagedFile, TaskOutput
from node.training.sgd import Progress
from node.training.staged_files import Staging
from node.training.worker_checks import clean_metrics
from protocol.errors import FednodeError

Say = Callable[[TaskOutput], None]


class TaskVoice:
    """Hears one task and says it on. May be called from any of the task's threads.

    `split` is what the task's metrics are of now, "train" or "eval"; `default_runs` whether the default training runs,
    which counts the steps itself.
    """

    def __init__(self, say: Say, progress: Progress, staging: Staging) -> None:
        self.split = "train"
        self.default_runs = False
        self._say = say
        self._progress = progress
        self._staging = staging
        self._lock = threading.Lock()

    def __call__(self, entry: Logged) -> None:
        """Say `entry` on. Raises Interrupted when nobody waits for the task's call any more."""
        round_number = self._progress.round
        match entry:
            case LoggedMetrics():
                self._metrics(entry)
            case LoggedParameters(values):
                self._say(TaskOutput("parameter", parameters=values, round=round_number))
            case LoggedSpan(name, seconds):
                self._say(TaskOutput("span", name=name, seconds=seconds, round=round_number))
            case LoggedArtifact():
                self._artifact(entry, round_number)

    def _metrics(self, entry: LoggedMetrics) -> None:
        place = self._progress
        with self._lock:
            step = entry.step
            if step is None:
                step = place.step if self.default_runs else place.step + 1
            place.at(place.epoch if entry.epoch is None else entry.epoch, step)
            at = (place.round, place.epoch, place.step)
        values = clean_metrics(entry.values)
        self._say(TaskOutput("metric", "", "INFO", values, *at, split=self.split))

    def _artifact(self, entry: LoggedArtifact, round_number: int) -> None:
        try:
            with self._lock:
                file = self._staging.put(entry.content)
        except FednodeError as error:
            leave_out(f"The artifact {entry.name}", error.what)
        except OSError as error:
            leave_out(f"The artifact {entry.name}", f"it cannot be copied ({error})")
        else:
            staged = StagedFile(file, entry.kind, entry.details)
            try:
                self._say(TaskOutput("artifact", name=entry.name, staged=staged, round=round_number))
            except BaseException:
                self._staging.drop(file)
                raise
