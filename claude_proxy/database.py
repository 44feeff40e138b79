"""A private SQLite file: made where there is none, moved aside when it is broken."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import structlog

log = structlog.get_logger()

# Seconds to wait for another process that writes, in which this one does nothing else.
PATIENCE = 0.25
OPEN_PATIENCE = 5.0
OPEN_INTERVAL = 0.05
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


class StoreUnusable(Exception):
    """The database cannot be opened, read or written; says why, without any content."""


class Corrupt(Exception):
    """What lies there is no database, or a broken one."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors, and the file system's, as StoreUnusable."""
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
    deadline = time.monotonic() + OPEN_PATIENCE
    try:
        while not locked(descriptor):
            if time.monotonic() > deadline:
                raise StoreUnusable(f"{directory}: another process does not let go of it")
            time.sleep(OPEN_INTERVAL)
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def opened(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """``schema``: the SQL that makes a new one, and sets its ``user_version`` to ``version``.

    Raises StoreUnusable.
    """
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with only_opener(path.parent):
            try:
                return connected(path, schema, version)
            except Corrupt:
                log.warning("store.corrupt", moved_to=str(moved_aside(path)))
                return connected(path, schema, version)


def connected(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Ready for use. Raises Corrupt, OSError, StoreUnusable, sqlite3.Error."""
    make_private(path)
    db = sqlite3.connect(path, timeout=OPEN_PATIENCE, isolation_level=None)
    try:
        prepare(db, path, schema, version)
        db.execute(f"PRAGMA busy_timeout = {round(PATIENCE * 1_000)}")
    except Exception as error:
        db.close()
        # The lowest byte is the kind of error, the others only say more of it.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN:
            raise Corrupt(str(error)) from None
        raise
    return db


def prepare(db: sqlite3.Connection, path: Path, schema: str, version: int) -> None:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > version:  # said before anything is changed in it
        raise StoreUnusable(f"{path}: version {found}, this program knows only {version}")
    db.executescript(PRAGMAS)
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise Corrupt("the pages do not fit together")
    if found == 0:
        db.executescript(schema)


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
