"""Answers that clients may come back to, with the conversations that led to them, in SQLite.

Ids are texts, bodies and items are bytes that are never looked into. Each item hangs on the one
before it and is named by the hash of all up to itself, like a commit in git. So a conversation
that is sent whole with every turn, or goes on from any earlier answer, keeps each item once.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, count, islice, repeat
from pathlib import Path

import structlog

log = structlog.get_logger()

VERSION = 1
PATIENCE = 2.0  # seconds to wait for another process that writes
FILES = ("-wal", "-shm", "-journal", "")
BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# auto_vacuum has to come before anything is written, the switch to WAL included. NORMAL syncs at
# checkpoints alone: what was committed is the kernel's, so the end of this process, be it a
# SIGKILL, cannot lose it; a power cut may lose the last answers, but does not break the file.
# temp_store keeps conversations out of files in other directories.
PRAGMAS = f"""
PRAGMA auto_vacuum = INCREMENTAL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;
PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = {8 * 1024**2}; PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
"""
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


class StoreUnusable(Exception):
    """The database cannot be opened, read or written; says why, without any content."""


class Corrupt(Exception):
    """What lies there is no database, or a broken one."""


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

    Every method raises StoreUnusable when the database fails; then nothing has changed.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, days: float, limit: int) -> None:
        self._db, self._path, self._days, self._limit = db, path, days, limit

    @classmethod
    def open(cls, path: Path, *, days: float, limit: int) -> Store:
        """Makes the file where there is none; moves a corrupt one aside and begins anew."""
        with translated(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with only_opener(path.parent):
                return cls(opened(path), path, days, limit)

    def put(self, record: Record) -> None:
        """Replaces the response of the same id; makes room by removing the oldest others.

        One that would not fit even alone is refused with StoreUnusable, and removes nobody.
        Of two outputs with one id the later one counts.
        """
        items = [*record.history, *record.asked, *record.said.values()]
        if len(record.body) + sum(map(len, items)) > self._limit:
            raise self._too_large()
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
            self._make_room(record.id)

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
        return found

    def expire(self) -> None:
        """Removes what has been out of everybody's sight since it became too old."""
        with self._change() as db:
            outdated = db.execute("SELECT id FROM response WHERE created < ?", (self._oldest(),))
            for (id_,) in outdated.fetchall():
                self._remove(id_)

    def close(self) -> None:
        with translated(self._path):
            self._db.close()

    def _oldest(self) -> float:
        """Unix seconds before which a response is too old."""
        return time.time() - self._days * 86_400

    def _one(self, query: str, id_: str) -> bytes | None:
        with translated(self._path):
            row: tuple[bytes] | None = self._db.execute(query, (id_, self._oldest())).fetchone()
        return row[0] if row else None

    def _items(self, query: str, id_: str) -> list[bytes] | None:
        """``query`` selects the nodes after which and with which the items end."""
        with translated(self._path), self._db:
            self._db.execute("BEGIN")  # both queries see the same state
            ends = self._db.execute(query, (id_, self._oldest())).fetchone()
            return ends and [item for (item,) in self._db.execute(ITEMS, ends)]

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

    def _make_room(self, kept: str) -> None:
        oldest = "SELECT id FROM response WHERE id != ? ORDER BY created, rowid LIMIT 1"
        size = self._number("page_size")
        while (self._number("page_count") - self._number("freelist_count")) * size > self._limit:
            found = self._db.execute(oldest, (kept,)).fetchone()
            if found is None:
                raise self._too_large()
            self._remove(found[0])

    def _number(self, pragma: str) -> int:
        row: tuple[int] = self._db.execute(f"PRAGMA {pragma}").fetchone()
        return row[0]

    def _too_large(self) -> StoreUnusable:
        return StoreUnusable(f"{self._path}: {self._limit} bytes are too few for a response")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            # Of a statement without columns sqlite3 does one step, here one page.
            for _ in range(self._number("freelist_count")):
                self._db.execute("PRAGMA incremental_vacuum")


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


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror}") from None
    except (sqlite3.Error, Corrupt) as error:
        raise StoreUnusable(f"{path}: {error}") from None


@contextmanager
def only_opener(directory: Path) -> Iterator[None]:
    """Of two at once, one could move aside as corrupt what the other has just begun."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def opened(path: Path) -> sqlite3.Connection:
    try:
        return connected(path)
    except Corrupt:
        log.warning("store.corrupt", moved_to=str(moved_aside(path)))
        return connected(path)


def connected(path: Path) -> sqlite3.Connection:
    """Ready for use. Raises Corrupt, OSError, StoreUnusable, sqlite3.Error."""
    make_private(path)
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        prepare(db, path)
    except Exception as error:
        db.close()
        # The lowest byte is the kind of error, the others only say more of it.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN:
            raise Corrupt(str(error)) from None
        raise
    return db


def prepare(db: sqlite3.Connection, path: Path) -> None:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:  # said before anything is changed in it
        raise StoreUnusable(f"{path}: version {version}, this program knows only {VERSION}")
    db.executescript(PRAGMAS)
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise Corrupt("the pages do not fit together")
    if version == 0:
        db.executescript(SCHEMA)


def make_private(path: Path) -> None:
    """Makes the file where there is none; SQLite gives the side files the mode of the file."""
    if path.exists() and not path.is_file():
        raise StoreUnusable(f"{path}: not a regular file")
    with suppress(FileExistsError):
        # Never opens an existing one: closing it would end the locks of this process's other
        # connections to it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for suffix in FILES:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").chmod(0o600)


def moved_aside(path: Path) -> Path:
    """The new place of the file; its side files go with it."""
    places = (path.with_name(f"{path.name}.corrupt-{now}") for now in count(int(time.time())))
    place = next(place for place in places if not place.exists())
    for suffix in FILES:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{place}{suffix}")
    return place
