"""What 10,000 runs cost: the node that lists them, and the dashboard that shows the list while runs go on.

The store is a real one, of 10,000 runs with 5 nodes, 10 rounds and a million figures. Of the node the CPU time of a
page of 100 is taken, of the dashboard the share of a core in its view of all runs, with ten events a second about
runs going on and a page further every second; once with 100 runs and once with 10,000.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import duckdb

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tui"))

from tui_fakes import FakeClient  # noqa: E402

from tracker.store import Store, open_stopped  # noqa: E402
from tui.app import Dashboard  # noqa: E402
from tui.facts.run_list import PAGE_RUNS  # noqa: E402
from tui.feeds.feed import LiveFeed  # noqa: E402
from tui.feeds.store import StoreFeed  # noqa: E402

RUNS, FEW_RUNS, NODES, ROUNDS = 10_000, 100, 5, 10
ASKED_TIMES = 5  # the fastest counts
WARM_UP_S, MEASURED_S, EVENT_S = 4.0, 12.0, 0.1
SIZE = (160, 48)
QUESTIONS = {
    "newest": {},
    "by_accuracy": {"sort": "accuracy"},
    "found": {"text": "study-12 failed", "by_project": True},
    "last": {"sort": "name", "offset": RUNS - PAGE_RUNS},
}

# Made inside DuckDB, with all the memory that it likes: how rows came in does not matter to what asking them costs.
_FILL = """
INSERT INTO runs BY NAME SELECT md5('r' || i) AS run_id, 'study-' || (i % 700) || ' attempt ' || i AS name,
    'project-' || (i % 20) AS project, 'exp-' || (i % 100) AS experiment, 'g' AS group_id, 'digits' AS task,
    'digits' AS data, 'node-0' AS proposer, {rounds} AS rounds, TIMESTAMP '2026-01-01' + to_minutes(i) AS created_at,
    json_object('tags', ['t' || (i % 7)], 'training', json_object('learning_rate', 1 / (1 + i % 9))) AS manifest
    FROM range({runs}) t(i);
INSERT INTO nodes BY NAME SELECT 'node-' || i AS node_id, 'name-' || i AS name, 'm' AS member_id, '0.1' AS version,
    '{{}}' AS capacity, TIMESTAMP '2026-01-01' AS last_seen FROM range({nodes}) t(i);
INSERT INTO participants BY NAME SELECT run_id, 'node-' || n AS node_id, true AS voter, 100 AS samples, '' AS role,
    '' AS data_fingerprint FROM runs, range({nodes}) u(n);
INSERT INTO status_events BY NAME SELECT run_id, node_id, state, '' AS reason, round, created_at AS time,
    row_number() OVER () AS sequence, 'node-0' AS source_node, row_number() OVER () AS position FROM (
    SELECT run_id, created_at, '' AS node_id, unnest(['GATHERING', 'RUNNING', CASE WHEN hash(run_id) % 10 = 1
        THEN 'FAILED' ELSE 'FINISHED' END]) AS state, 0 AS round FROM runs
    UNION ALL SELECT run_id, created_at, 'node-' || n, state, round, FROM runs, range({nodes}) u(n),
        range({rounds}) w(round), (VALUES ('TRAINING'), ('UPLOADING'), ('WAITING')) v(state));
INSERT INTO rounds BY NAME SELECT run_id, 1 + r AS round, 1 AS term, 'node-1' AS aggregator, 'c' AS checkpoint,
    'm' AS model, created_at AS committed_at, {nodes} AS updates_used, '[]' AS updates_refused, 1000 AS bytes,
    2.0 AS seconds FROM runs, range({rounds}) u(r) ORDER BY created_at, r;
INSERT INTO metrics BY NAME SELECT run_id, 'node-' || n AS node_id, 'global' AS scope, 'eval' AS split, key,
    1 + r AS round, 0 AS epoch, 0 AS step, 1 - 1 / (1.2 + r + hash(run_id) % 10) AS value, 100 AS samples,
    created_at AS time, 'node-' || n AS source_node, row_number() OVER () AS sequence,
    row_number() OVER () AS position
    FROM runs, range({nodes}) u(n), range({rounds}) w(r), (VALUES ('accuracy'), ('loss')) v(key)
    ORDER BY created_at, r;
"""


def fill(path, runs):
    Store(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute(_FILL.format(runs=runs, nodes=NODES, rounds=ROUNDS))


def page_ms(reader, *, sort="created", **wanted):
    """CPU time of a page with its participants and the count of all that fit, as the node asks the record for it."""
    filters = {key: wanted[key] for key in ("text",) if key in wanted}
    taken = []
    for _ in range(ASKED_TIMES):
        before = time.process_time()
        rows = reader.query(f"runs_by_{sort}", {"limit": PAGE_RUNS, **wanted})
        reader.query("runs_total", filters)
        reader.query("participants", {"run_ids": [row["run_id"] for row in rows]})
        taken.append(time.process_time() - before)
        assert rows
    return round(min(taken) * 1000)


class Node(FakeClient):
    """Tells of a store as its node would, and answers out of it; all answers are there before the measurement."""

    def __init__(self, feed):
        self._feed = feed
        snapshot = json.loads(json.dumps(feed.snapshot()))
        snapshot["runs"][:3] = [{**run, "state": "RUNNING", "seconds_left": 90.0} for run in snapshot["runs"][:3]]
        super().__init__([snapshot])
        self.going_on = snapshot["runs"][:3]
        self._known = {}

    async def ask(self, *parts, **filters):
        if parts not in (("runs",), ("projects",)):
            return await super().ask(*parts, **filters)
        asked = json.dumps([parts, filters])
        if asked not in self._known:
            self._known[asked] = self._feed._answer(parts, filters)
        return self._known[asked]


async def core_share(path):
    """CPU seconds a second that the dashboard takes in its view of all runs."""
    feed = StoreFeed(path)
    node = Node(feed)
    app = Dashboard(LiveFeed(node.connect))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("2")
        total = app.state.runs_total

        async def go_on(seconds):
            until, turn = time.monotonic() + seconds, 0
            while time.monotonic() < until:
                turn += 1
                run = node.going_on[turn % 3]
                run |= {"round": turn % ROUNDS, "accuracy": turn % 100 / 100}
                await node.say({"type": "run", "run": dict(run)})
                if turn % 10 == 0:
                    table = app.query_one("#runs")
                    table.action_edge(-1) if table.at_end else table.action_page(1)
                await asyncio.sleep(EVENT_S)

        for first in range(0, total, PAGE_RUNS):  # the node's work is measured by itself
            wanted = {"brief": True, "limit": PAGE_RUNS, "offset": first, "sort": "created", "descending": True}
            await node.ask("runs", **dict(sorted(wanted.items())))
        await go_on(WARM_UP_S)
        before, since = time.process_time(), time.monotonic()
        await go_on(MEASURED_S)
        share = (time.process_time() - before) / (time.monotonic() - since)
        assert "Runs" in app.query_one("#runs").words[0]
    feed.close()
    return round(share, 3)


def figures():
    with tempfile.TemporaryDirectory() as folder:
        few, many = (Path(folder) / f"{runs}.duckdb" for runs in (FEW_RUNS, RUNS))
        fill(few, FEW_RUNS)
        fill(many, RUNS)
        store = open_stopped(many)
        reader = store.reader()
        found = {f"runs_10000_{name}_ms": page_ms(reader, **wanted) for name, wanted in QUESTIONS.items()}
        reader.close()
        store.close()
        found["tui_100_runs_core_share"] = asyncio.run(core_share(few))
        found["tui_10000_runs_core_share"] = asyncio.run(core_share(many))
    return found


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
