"""Reading the store: named queries for the node, and a person's own SQL, both in read-only transactions."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb

from protocol.errors import FednodeError, Refused
from tracker.queries.queries import compile_query
from tracker.queries.statements import check_statement
from tracker.tables.check import Checked, check_tables, models_named, schemas_named
from tracker.tables.connect import first_line
from tracker.tables.rows import iso_of

RESULT_CHARACTERS_MAX = 32 * 1024 * 1024  # of text in one answer to a person: more is an export, not an answer
_FETCH_ROWS = 1000


class Reader:
    """A cursor on the store. For one thread at a time, except `interrupt`, which any thread may call."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def query(self, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a query of tracker.queries.queries, as values that JSON knows.

        Times are ISO 8601 text, JSON columns are decoded, a number that is not finite is None.

        Raises:
            Refused: the query was interrupted, or outgrew its memory.
            FednodeError: there is no such query or parameter, or one that is needed is missing.
        """
        sql, bound, decode = compile_query(name, parameters)
        with self._reading():
            self._cursor.execute(sql, bound)
            names = [column[0] for column in self._cursor.description]
            found = self._cursor.fetchall()
        return [{key: decode(key, plain(value)) for key, value in zip(names, row, strict=True)} for row in found]

    def sql(self, statement: str, rows_max: int) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        """Columns and at most `rows_max` rows of a person's statement, and whether there were more.

        Raises:
            Refused: the statement does more than read, is wrong, was interrupted, or outgrew its memory.
        """
        with self._reading():
            pass  # whether it can be read at all
        check_statement(self._cursor, statement)
        with self._reading():
            self._cursor.execute(statement)
            names = [column[0] for column in self._cursor.description]
            rows, truncated = self._fetch(rows_max)
        return names, rows, truncated

    def interrupt(self) -> None:
        """End the statement that runs now, if any, in about 10 ms."""
        with contextlib.suppress(duckdb.Error):  # it may have been closed meanwhile
            self._cursor.interrupt()

    def check(self) -> Checked:
        """Look all of it through. Raises Refused when it was interrupted, or outgrew its memory."""
        with self._reading():
            return check_tables(self._cursor)

    def models_named(self) -> list[dict[str, Any]]:
        """The blobs that are named as models or artifacts, as tracker.tables.check.models_named."""
        with self._reading():
            return models_named(self._cursor)

    def schemas_named(self) -> set[str]:
        """The blobs that are named as tensor schemas."""
        with self._reading():
            return schemas_named(self._cursor)

    def close(self) -> None:
        self._cursor.close()

    def _fetch(self, rows_max: int) -> tuple[list[tuple[Any, ...]], bool]:
        rows: list[tuple[Any, ...]] = []
        characters = 0
        while some := self._cursor.fetchmany(min(_FETCH_ROWS, rows_max + 1 - len(rows))):
            for row in some:
                values = tuple(plain(value) for value in row)
                characters += sum(len(value) for value in values if isinstance(value, str))
                if len(rows) == rows_max or characters > RESULT_CHARACTERS_MAX:
                    return rows, True
                rows.append(values)
        return rows, False

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            self._cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield
        except duckdb.InterruptException:
            raise Refused("interrupted", "The query was interrupted", remedy="ask again, or for less") from None
        except duckdb.OutOfMemoryException:
            raise Refused("sql-memory", "The query needs too much memory", remedy="ask for less at once") from None
        except duckdb.FatalException as error:
            raise FednodeError(
                f"The store cannot be read: {first_line(str(error))}",
                remedy="see that its disk has room, and ask again",
            ) from None
        except duckdb.Error as error:
            raise _refusal(str(error)) from None
        finally:
            with contextlib.suppress(duckdb.Error):  # there is no transaction where BEGIN itself was interrupted
                self._cursor.execute("ROLLBACK")


def _refusal(text: str) -> Refused:
    if "pytz" in text:
        return Refused(
            "sql-time-zone",
            "A column has a time zone",
            remedy="cast it, as in now()::TIMESTAMP; the store's are in UTC",
        )
    return Refused("sql", first_line(text), remedy="correct the statement; DESCRIBE TABLE names a table's columns")


def plain(value: Any) -> Any:
    """A value of DuckDB's as one that JSON knows: times and bytes as text, what is not finite as None."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return iso_of(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return str(value)
