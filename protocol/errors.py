"""The errors of fednode: each names the culprit and the remedy."""

from collections.abc import Sequence


class FednodeError(Exception):
    """Something a person should read: what happened and why, then what to do.

    Args:
        what: what happened and why, as the beginning of a sentence, without a full stop.
        remedy: what the reader can do about it, in the imperative, without a full stop.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}. To fix: {remedy}.")
        self.what = what
        self.remedy = remedy


class LocalProtocolError(FednodeError):
    """We were about to say something that the protocol forbids: a bug of ours."""


class RemoteProtocolError(FednodeError):
    """A peer said something that the protocol forbids: drop what it said, and perhaps the peer."""

    def __init__(self, what: str, *, remedy: str = "nothing to do here; the peer runs broken or hostile code") -> None:
        super().__init__(what, remedy=remedy)


class UnknownKind(RemoteProtocolError):
    """A peer said something of a kind that this version does not know: a newer one may. Overlook it, and go on."""


class Refused(FednodeError):
    """A rule says no to a request that is well formed.

    Args:
        code: a short, stable name of the rule, in kebab-case, for programs and for the other end.
    """

    def __init__(self, code: str, what: str, *, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.code = code


class InvalidFile(Refused):
    """A file that people write is not valid. `problems` has a sentence for each thing that is wrong, in `what` too.

    Args:
        file: what the file is, as the beginning of a sentence.
    """

    def __init__(self, code: str, file: str, problems: Sequence[str], *, remedy: str) -> None:
        count = "an error" if len(problems) == 1 else f"{len(problems)} errors"
        text = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(code, f"{file} has {count}:\n{text}", remedy=remedy)
        self.problems = tuple(problems)
