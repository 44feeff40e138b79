"""What was spent on which day, by the CLI's own figures, kept over restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Self

import structlog

from claude_proxy.database import Database, StoreUnusable

log = structlog.get_logger()

NAME = "spending.db"
VERSION = 1
SCHEMA = f"""
CREATE TABLE spent (day TEXT PRIMARY KEY, usd REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
ADD = """
INSERT INTO spent VALUES (?, ?) ON CONFLICT (day) DO UPDATE SET usd = usd + excluded.usd
RETURNING usd
"""


class Spending:
    """US dollars by local day. Without a file, or when that fails, it counts in memory."""

    def __init__(
        self, database: Database | None = None, now: Callable[[], date] = date.today
    ) -> None:
        """Raises StoreUnusable."""
        self._database = database
        self._now = now
        self._day = now()
        self._usd = self._kept()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises StoreUnusable."""
        return cls(Database(path, SCHEMA, VERSION))

    @property
    def today(self) -> float:
        self._turn_page()
        return self._usd

    def add(self, usd: float) -> None:
        self._turn_page()
        self._usd += usd
        if self._database is None:
            return
        try:
            with self._database.use() as db, db:  # also what another daemon of this user has spent
                self._usd = float(db.execute(ADD, (self._day.isoformat(), usd)).fetchone()[0])
        except StoreUnusable as error:
            log.warning("spending.not_kept", reason=str(error), usd=usd)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _turn_page(self) -> None:
        if (today := self._now()) == self._day:
            return
        self._day, self._usd = today, 0.0
        with suppress(StoreUnusable):  # ``add`` will say so
            self._usd = self._kept()

    def _kept(self) -> float:
        if self._database is None:
            return 0.0
        with self._database.use() as db:
            return spent_on(db, self._day)


def spent_on(db: sqlite3.Connection, day: date) -> float:
    row = db.execute("SELECT usd FROM spent WHERE day = ?", (day.isoformat(),)).fetchone()
    return float(row[0]) if row else 0.0


def spent_today(path: Path) -> float | None:
    """Looks only, for whoever is not the daemon; None when it cannot be told."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        return spent_on(db, date.today())  # noqa: DTZ011 - the user's own day
    return None


def opened(path: Path) -> Spending:
    """Counts in memory alone when the file cannot be used."""
    try:
        return Spending.open(path)
    except StoreUnusable as error:
        log.warning("spending.not_kept", reason=str(error))
        return Spending()
