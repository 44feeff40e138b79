"""Answers that clients may come back to, with the conversations that led to them, in SQLite.

Ids are texts, bodies and items are bytes that are never looked into. Each item hangs on the one
before it and is named by the hash of all up to itself, like a commit in git. So a conversation
that is sent whole with every turn, or goes on from any earlier answer, keeps each item once.
"""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, islice, repeat
from pathlib import Path

from claude_proxy.database import Database, StoreUnusable

VERSION = 1
LONGEST_REMOVAL = 0.05  # seconds, in which nothing else is done
# ``start``, ``asked``, ``said``: the last node before an answer's own input, of that input, and of
# the output; NULL where nothing has come yet. The first two lie above the third or are the same,
# so a node that is nobody's ``said`` and has no children is of no use any more.
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE node (id BLOB NOT NULL PRIMARY KEY, parent BLOB REFERENCES node, item BLOB NOT NULL);
CREATE INDEX node_parent ON node (parent);
CREATE TABLE response (id TEXT NOT NULL PRIMARY KEY, created INTEGER NOT NULL,
    start BLOB, asked BLOB, said BLOB REFERENCES node, body BLOB NOT NULL);
CREATE INDEX response_created ON response (created);
CREATE INDEX response_said ON response (said);
CREATE TABLE output (id TEXT NOT NULL PRIMARY KEY, node BLOB NOT NULL,
    response TEXT NOT NULL REFERENCES response ON DELETE CASCADE);
CREATE INDEX output_response ON output (response);
PRAGMA user_version = {VERSION};
COMMIT;
"""
# The items after the first given node, up to the second, oldest first.
ITEMS = """
WITH RECURSIVE up (id, parent, height) AS (
    SELECT id, parent, 0 FROM node WHERE id = ?2 AND id IS NOT ?1
    UNION ALL
    SELECT node.id, node.parent, height + 1 FROM up JOIN node ON node.id = up.parent
    WHERE node.id IS NOT ?1
)
SELECT item FROM up JOIN node USING (id) ORDER BY height DESC
"""
PRUNE = """
DELETE FROM node WHERE id = ?1
    AND NOT EXISTS (SELECT 1 FROM node AS child WHERE child.parent = ?1)
    AND NOT EXISTS (SELECT 1 FROM response WHERE said = ?1)
RETURNING parent
"""


@dataclass(frozen=True, slots=True)
class Record:
    """``created``: Unix seconds. ``body``: the response as the client got it.

    ``history``: the conversation before this request's own input ``asked``, oldest first.
    ``said``: the answer's items by their ids, in order.
    """

    id: str
    created: int
    body: bytes
    history: Sequence[bytes]
    asked: Sequence[bytes]
    said: Mapping[str, bytes]


class Store:
    """Keeps responses for ``days``, and only the newest that fit into ``limit`` bytes.

    Every method raises StoreUnusable when the database fails; then no response has changed half.
    """

    def __init__(self, database: Database, path: Path, days: float, limit: int) -> None:
        self._database, self._path, self._days, self._limit = database, path, days, limit

    @classmethod
    def open(cls, path: Path, *, days: float, limit: int) -> Store:
        """Makes the file where there is none; moves a corrupt one aside and begins anew."""
        return cls(Database(path, SCHEMA, VERSION), path, days, limit)

    def put(self, record: Record) -> None:
        """Replaces the response of the same id; makes room by removing the oldest others.

        One that would not fit even alone is refused with StoreUnusable, and removes nobody.
        Of two outputs with one id the later one counts.
        """
        items = [*record.history, *record.asked, *record.said.values()]
        if len(record.body) + sum(map(len, items)) > self._limit:
            raise self._too_small()
        nodes = chain(items)
        start = len(record.history)
        asked = start + len(record.asked)
        with self._change() as db:
            self._remove(record.id)
            self._add_nodes(nodes, items)
            db.execute(
                "INSERT INTO response (id, created, start, asked, said, body)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (record.id, record.created, nodes[start], nodes[asked], nodes[-1], record.body),
            )
            db.executemany(
                "INSERT OR REPLACE INTO output (id, response, node) VALUES (?, ?, ?)",
                zip(record.said, repeat(record.id), nodes[asked + 1 :], strict=False),
            )
            while self._is_too_large():
                self._remove_oldest(kept=record.id)

    def get(self, id_: str) -> bytes | None:
        """The response's body."""
        return self._one("SELECT body FROM response WHERE id = ? AND created >= ?", id_)

    def item(self, id_: str) -> bytes | None:
        """An answer's item by its own id."""
        return self._one(
            "SELECT item FROM output JOIN response ON response.id = output.response"
            " JOIN node ON node.id = output.node WHERE output.id = ? AND created >= ?",
            id_,
        )

    def context(self, id_: str) -> list[bytes] | None:
        """The conversation up to and with that answer, oldest first."""
        return self._items("SELECT NULL, said FROM response WHERE id = ? AND created >= ?", id_)

    def asked(self, id_: str) -> list[bytes] | None:
        """The input items that were that request's own."""
        return self._items("SELECT start, asked FROM response WHERE id = ? AND created >= ?", id_)

    def delete(self, id_: str) -> bool:
        """Whether there was one. What other answers share of its conversation stays theirs."""
        seen = "SELECT 1 FROM response WHERE id = ? AND created >= ?"
        with self._change() as db:
            found = db.execute(seen, (id_, self._oldest())).fetchone() is not None
            self._remove(id_)
        self._empty_log()
        return found

    def expire(self) -> bool:
        """Removes some of what is too old, or too much; whether there is more of it.

        Not all at once, which could take seconds.
        """
        outdated = "SELECT id FROM response WHERE created < ? LIMIT 1"
        deadline = time.monotonic() + LONGEST_REMOVAL
        more = True
        with self._change() as db:
            while more and time.monotonic() < deadline:
                found = db.execute(outdated, (self._oldest(),)).fetchone()
                if found is not None:
                    self._remove(found[0])
                elif self._is_too_large():
                    self._remove_oldest(kept="")
                else:
                    more = False
        if not more:
            self._empty_log()
        return more

    def close(self) -> None:
        self._database.close()

    @property
    def _db(self) -> sqlite3.Connection:
        return self._database.connection

    def _oldest(self) -> float:
        """Unix seconds before which a response is too old."""
        return time.time() - self._days * 86_400

    def _one(self, query: str, id_: str) -> bytes | None:
        with self._database.use() as db:
            row: tuple[bytes] | None = db.execute(query, (id_, self._oldest())).fetchone()
        return row[0] if row else None

    def _items(self, query: str, id_: str) -> list[bytes] | None:
        """``query`` selects the nodes after which and with which the items end."""
        with self._database.use() as db, db:
            db.execute("BEGIN")  # both queries see the same state
            ends = db.execute(query, (id_, self._oldest())).fetchone()
            return ends and [item for (item,) in db.execute(ITEMS, ends)]

    def _add_nodes(self, nodes: list[bytes | None], items: list[bytes]) -> None:
        """Where a node exists all before it do, so that few have to be asked for."""
        new = bisect_left(nodes, True, lo=1, key=self._is_new)  # noqa: FBT003
        self._db.executemany(
            "INSERT INTO node (id, parent, item) VALUES (?, ?, ?)",
            zip(nodes[new:], nodes[new - 1 :], items[new - 1 :], strict=False),
        )

    def _is_new(self, node: bytes | None) -> bool:
        return self._db.execute("SELECT 1 FROM node WHERE id = ?", (node,)).fetchone() is None

    def _remove(self, id_: str) -> None:
        """With its nodes, from the last one up to the first that somebody else needs."""
        removal = "DELETE FROM response WHERE id = ? RETURNING said"
        ends = self._db.execute(removal, (id_,)).fetchall()
        while ends:
            ends = self._db.execute(PRUNE, ends[0]).fetchall()

    def _remove_oldest(self, kept: str) -> None:
        oldest = "SELECT id FROM response WHERE id != ? ORDER BY created, rowid LIMIT 1"
        found = self._db.execute(oldest, (kept,)).fetchone()
        if found is None:
            raise self._too_small()
        self._remove(found[0])

    def _is_too_large(self) -> bool:
        used = self._number("page_count") - self._number("freelist_count")
        return used * self._number("page_size") > self._limit

    def _empty_log(self) -> None:
        """In the write-ahead log, what was deleted could be read for long."""
        with self._database.use() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _number(self, pragma: str) -> int:
        row: tuple[int] = self._db.execute(f"PRAGMA {pragma}").fetchone()
        return row[0]

    def _too_small(self) -> StoreUnusable:
        return StoreUnusable(f"{self._path}: {self._limit} bytes are too few for a response")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._database.use() as db, db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            # Of a statement without columns sqlite3 does one step, here one page.
            for _ in range(self._number("freelist_count")):
                db.execute("PRAGMA incremental_vacuum")


class RecentItems:
    """Items by id in memory, the oldest forgotten above ``limit`` bytes, ids included."""

    def __init__(self, limit: int = 16 * 1024**2) -> None:
        self._items: dict[str, bytes] = {}
        self._limit, self._size = limit, 0

    def add(self, items: Mapping[str, bytes]) -> None:
        """One that is too large even alone is not kept, and drives nobody out."""
        for id_, item in items.items():
            self._forget(id_)
            if len(id_) + len(item) <= self._limit:
                self._items[id_] = item
                self._size += len(id_) + len(item)
            while self._size > self._limit:
                self._forget(next(iter(self._items)))

    def get(self, id_: str) -> bytes | None:
        return self._items.get(id_)

    def _forget(self, id_: str) -> None:
        if (item := self._items.pop(id_, None)) is not None:
            self._size -= len(id_) + len(item)


def chain(items: Sequence[bytes]) -> list[bytes | None]:
    """Names of the nodes: at index n that of the n-th item, at 0 None, where all begin."""
    # The first is as long as any other, so that no item can pass for a name and an item.
    names = accumulate(items, lambda name, item: sha256(name + item).digest(), initial=bytes(32))
    return [None, *islice(names, 1, None)]
