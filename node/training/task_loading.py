"""Finding a run's task by name or path, and telling people what went wrong inside its code.

A local file is loaded by whoever calls this: worker processes and simulations, never the node's own process.
"""

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fednode import Interrupted, Task, TaskError
from node.seams import TaskSpec, TrainerFailed
from node.training.worker_watch import LESS_MEMORY
from protocol.errors import FednodeError

BUILT_IN = {"digits": "node.tasks.digits", "tabular": "node.tasks.tabular"}
REASON_CHARACTERS_MAX = 500  # of an exception's own text, which may hold a whole tensor
TRACEBACK_CHARACTERS_MAX = 20_000  # its end, which names the culprit
_KIND = re.compile(r"[A-Za-z_]\w{0,59}", re.ASCII)
_FILE = re.compile(r"[\w-]{1,80}\.py", re.ASCII)


def make_task(spec: TaskSpec) -> tuple[Task, str]:
    """The run's task, and the file that it comes from. Raises TaskError, or what the task's module raises."""
    if spec.task in BUILT_IN:
        module = importlib.import_module(BUILT_IN[spec.task])
    elif spec.task.endswith(".py"):
        module = _load_file(Path(spec.task))
    elif not spec.task:
        raise TaskError(
            "The file of the run's task is not where it was when the run was accepted, or has changed since",
            remedy="put the very same file back, and restart the node",
        )
    else:
        raise TaskError(
            f"There is no task {spec.task!r}", remedy=f"use {' or '.join(BUILT_IN)}, or the path of a Python file"
        )
    return _task_class(module, spec.task)(spec.task_parameters), str(module.__file__)


def _load_file(path: Path) -> ModuleType:
    """Import `path` under a name that hides no other module. Modules beside it can be imported, after all others."""
    if not path.is_file():
        raise TaskError(f"There is no task file at {path}", remedy="check the path in the run's configuration")
    name = f"fednode_task_{path.stem}"
    location = importlib.util.spec_from_file_location(name, path)
    if location is None or location.loader is None:
        raise TaskError(f"{path} cannot be imported", remedy="give a plain Python file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(location)
    sys.modules[name] = module  # pickle and dataclasses look modules up there
    location.loader.exec_module(module)
    return module


def _task_class(module: ModuleType, task: str) -> type[Task]:
    """The one public Task that `module` itself defines. Raises TaskError when there is none, or several."""
    tasks = [
        entry
        for name, entry in vars(module).items()
        if inspect.isclass(entry)
        and issubclass(entry, Task)
        and entry.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if len(tasks) != 1:
        names = ", ".join(entry.__name__ for entry in tasks)
        raise TaskError(
            f"{task} has {len(tasks)} tasks ({names})" if tasks else f"{task} has no subclass of fednode.Task",
            remedy="have exactly one in the file; begin the names of helper classes with an underscore",
        )
    missing = sorted(getattr(tasks[0], "__abstractmethods__", ()))
    if missing:
        raise TaskError(f"The task {tasks[0].__name__} in {task} has no {' and no '.join(missing)}", remedy="write it")
    return tasks[0]


@contextmanager
def telling_failures(doing: str, task_file: str) -> Iterator[None]:
    """Turn what the task's code raises while `doing` something into a TrainerFailed that names the line at fault."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise
    except (TaskError, FednodeError) as error:
        brief = "" if _is_fednodes_own(error) else in_brief(error, task_file)
        raise TrainerFailed(error.what, remedy=error.remedy, traceback=_traceback_of(error), brief=brief) from error
    except BaseException as error:  # the task is anybody's code; sys.exit in it is a failure as well
        text = str(error).strip()[:REASON_CHARACTERS_MAX]
        reason = type(error).__name__ + (f": {text}" if text else "")
        remedy = "mend the task or the data; the whole traceback is in fednode run logs"
        if isinstance(error, MemoryError):
            reason, remedy = f"memory ran out ({reason})", LESS_MEMORY
        raise TrainerFailed(
            f"{doing} failed at {culprit(error, task_file)}: {reason}",
            remedy=remedy,
            traceback=_traceback_of(error),
            brief=in_brief(error, task_file),
        ) from error


def culprit(error: BaseException, task_file: str) -> str:
    """The innermost place in the task's own file that led to `error`, or else the innermost of all."""
    file, line, function = _place(error, task_file)
    return f"{file}, line {line}" + (f", in {function}" if function else "")


def in_brief(error: BaseException, task_file: str) -> str:
    """The kind of `error` and its place, which give no data away: a kind or a file with an odd name goes unnamed."""
    kind, (file, line, _) = type(error).__name__, _place(error, task_file)
    kind = kind if _KIND.fullmatch(kind) else "an exception"
    return f"{kind} in {file} line {line}" if _FILE.fullmatch(file) else kind


def _place(error: BaseException, task_file: str) -> tuple[str, int | None, str]:
    """File, line and function of the culprit."""
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename).name, error.lineno, ""
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if task_file and place.filename == task_file]
    place = (own or places)[-1]
    return Path(place.filename).name, place.lineno, place.name


def _is_fednodes_own(error: BaseException) -> bool:
    """Whether none but fednode's own code led to `error`: its words then are ours, and hold no data."""
    ours = Path(__file__).parent
    files = [Path(place.filename) for place in traceback.extract_tb(error.__traceback__)]
    return all(ours in file.parents or (file.parent == ours.parent and file.match("fednode*.py")) for file in files)


def _traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS_MAX:]
