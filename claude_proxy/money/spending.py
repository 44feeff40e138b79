"""What was used on which day, by whom and of which model, kept over restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Any, Self

import structlog

from claude_proxy.conversation import Usage
from claude_proxy.database import Database, StoreUnusable
from claude_proxy.money.used import Used

log = structlog.get_logger()

NAME = "spending.db"
VERSION = 2
TABLE = """
CREATE TABLE used (
  day TEXT NOT NULL, client TEXT NOT NULL, model TEXT NOT NULL, answers INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  output INTEGER NOT NULL, reasoning INTEGER NOT NULL, usd REAL NOT NULL,
  estimated_usd REAL NOT NULL, PRIMARY KEY (day, client, model)
) WITHOUT ROWID;
"""
SCHEMA = f"{TABLE} PRAGMA user_version = {VERSION};"
# Version 1 knew only the sum of a day.
FROM_1 = (
    TABLE,
    "INSERT INTO used SELECT day, '', '', 0, 0, 0, 0, 0, 0, usd, 0 FROM spent",
    "DROP TABLE spent",
    f"PRAGMA user_version = {VERSION}",
)
COLUMNS = "answers, input, cache_read, cache_write, output, reasoning, usd, estimated_usd"
ADD = f"""
INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, client, model)
DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS.split(", "))}
"""  # noqa: S608 - of constants, as those below
SUM = "SELECT coalesce(sum(usd + estimated_usd), 0) FROM used WHERE day >= ?"
LIST = f"SELECT day, client, model, {COLUMNS} FROM used WHERE day BETWEEN ? AND ? ORDER BY day"  # noqa: S608

# Days times clients; each is what the database has said last.
MOST_SUMS = 1_000


class Spending:
    """By local day. Without a file, or while that fails, it counts in memory."""

    def __init__(
        self, database: Database | None = None, now: Callable[[], date] = date.today
    ) -> None:
        """Raises StoreUnusable."""
        self._database = database
        self.day = now
        # What is not in the database yet, by day, client and model.
        self._unsaved: dict[tuple[str, str, str], Used] = {}
        self._last_sums: dict[tuple[str, str | None], float] = {}
        # Of this daemon, since its start; and how often something was added.
        self.totals: dict[tuple[str, str], Used] = {}
        self.additions = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises StoreUnusable."""
        database = Database(path, SCHEMA, VERSION)
        with database.use() as db:
            if version(db) == 1:
                upgrade(db)
        return cls(database)

    @property
    def today(self) -> float:
        """US dollars, those included that another daemon of this user has spent."""
        return self.since(self.day())

    def since(self, first: date, client: str | None = None) -> float:
        """US dollars from that day on, of one client or of all."""
        query = first.isoformat(), client
        sql, asked = (SUM, query[:1]) if client is None else (f"{SUM} AND client = ?", query)
        with suppress(StoreUnusable):  # ``add`` says so
            (found,) = self._read(sql, asked) or [(0.0,)]
            if len(self._last_sums) > MOST_SUMS:
                self._last_sums.clear()
            self._last_sums[query] = float(found[0])
        unsaved = sum(
            used.all_usd
            for (day, whose, _), used in self._unsaved.items()
            if day >= query[0] and client in (None, whose)
        )
        return self._last_sums.get(query, 0.0) + unsaved

    def by_day(self, first: date, last: date) -> dict[str, list[Used]]:
        """Of each day that has any, one for each client and model."""
        rows: list[Any] = []
        days = first.isoformat(), last.isoformat()
        with suppress(StoreUnusable):
            self._save()
            rows = self._read(LIST, days)
        found: dict[str, list[Used]] = {}
        for day, client, model, answers, *tokens, usd, estimated in rows:
            used = Used(client, model, answers, Usage(*tokens), usd, estimated)
            found.setdefault(day, []).append(used)
        for (day, _, _), used in self._unsaved.items():
            if days[0] <= day <= days[1]:
                found.setdefault(day, []).append(used)
        return found

    def add(self, used: Used) -> None:
        self.additions += 1
        key = (self.day().isoformat(), used.client, used.model)
        self._unsaved[key] = self._unsaved[key] + used if key in self._unsaved else used
        total = self.totals.get(key[1:])
        self.totals[key[1:]] = total + used if total else used
        try:
            self._save()
        except StoreUnusable as error:
            log.warning("spending.not_kept", reason=str(error), usd=used.all_usd)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _read(self, sql: str, asked: Sequence[str | None]) -> list[Any]:
        if self._database is None:
            return []
        with self._database.use() as db:
            return db.execute(sql, asked).fetchall()

    def _save(self) -> None:
        if self._database is None or not self._unsaved:
            return
        rows = [
            (
                *key,
                *(used.answers, used.usage.input, used.usage.cache_read, used.usage.cache_write),
                *(used.usage.output, used.usage.reasoning, used.usd, used.estimated_usd),
            )
            for key, used in self._unsaved.items()
        ]
        with self._database.use() as db, db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(ADD, rows)
        self._unsaved.clear()


def version(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found


def upgrade(db: sqlite3.Connection) -> None:
    """By one of all the daemons that find it old at the same time."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        if version(db) == 1:
            for statement in FROM_1:
                db.execute(statement)


def spent_today(path: Path) -> float | None:
    """US dollars. Looks only, for whoever is not the daemon; None when it cannot be told."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        today = date.today().isoformat()  # noqa: DTZ011 - the user's own day
        return float(db.execute(SUM, (today,)).fetchone()[0])
    return None


def opened(path: Path) -> Spending:
    """Counts in memory alone when the file cannot be used."""
    try:
        return Spending.open(path)
    except StoreUnusable as error:
        log.warning("spending.not_kept", reason=str(error))
        return Spending()
