"""What exports read: the running node's API, or a store's file; both answer in the words of docs/api.md."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from fednode_client import Client

if TYPE_CHECKING:
    from node.cli.record_client import RecordClient  # DuckDB: only when a file is asked

Json = dict[str, Any]
PAGE_POINTS = 20_000  # of one answer: a few megabytes
_NODE_NAMES_MAX = 10_000

Source: TypeAlias = "Client | RecordClient"


def metric_pages(source: Source, run_id: str, after_round: int = -1) -> Iterator[list[Json]]:
    """All METRIC rows of the rounds after `after_round`, a page at a time; a round is never cut in two."""
    while True:
        page = source.metrics(run_id, after_round=after_round, limit=PAGE_POINTS)["metrics"]
        if not page:
            return
        yield page
        after_round = max(row["round"] for row in page)


def node_names(source: Source) -> dict[str, str]:
    """The names of all nodes that the record knows; no two need differ."""
    rows = source.sql("SELECT node_id, name FROM nodes ORDER BY last_seen DESC", _NODE_NAMES_MAX)["rows"]
    return {node_id: name for node_id, name in rows if name}
