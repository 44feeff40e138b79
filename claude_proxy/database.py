"""A private SQLite file: made where there is none, moved aside when it is broken, and never used on
once it is no longer the one that lies there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeAlias

import structlog

log = structlog.get_logger()

# Seconds to wait for another process that writes, in which this one does nothing else.
PATIENCE = 0.25
OPEN_PATIENCE = 5.0
OPEN_INTERVAL = 0.05
FILES = ("-wal", "-shm", "-journal", "")
BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

SIDE_FILES = ("-wal", "-shm")
# Device and inode of the file and of its side files, which stay the same while it is open.
Identity: TypeAlias = tuple[tuple[int, int] | None, ...]

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


class Database:
    """The connection to one file, opened anew once that is gone, replaced or broken.

    SQLite itself would go on in files that nobody can find any more.
    """

    def __init__(self, path: Path, schema: str, version: int) -> None:
        """As for ``opened``. Raises StoreUnusable."""
        self._path, self._schema, self._version = path, schema, version
        self._db: sqlite3.Connection | None = opened(path, schema, version)
        self._identity: Identity = identity(path)
        self._broken = self._closed = False

    @property
    def connection(self) -> sqlite3.Connection:
        """The one that is in use."""
        if self._db is None:
            raise sqlite3.ProgrammingError("the database is closed")
        return self._db

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Raises StoreUnusable."""
        with translated(self._path):
            if not self._closed and (self._broken or identity(self._path) != self._identity):
                self._open_anew()
            try:
                yield self.connection
            except sqlite3.Error as error:
                self._broken = is_broken(error)
                raise

    def close(self) -> None:
        self._closed = True
        with translated(self._path):
            self._leave()

    def _open_anew(self) -> None:
        """Tried again with each use until it succeeds."""
        if self._db is not None:
            log.warning("store.opened_anew", path=str(self._path), broken=self._broken)
        self._leave()
        self._db = opened(self._path, self._schema, self._version, PATIENCE)
        self._identity, self._broken = identity(self._path), False

    def _leave(self) -> None:
        if self._db is None:
            return
        db, self._db = self._db, None
        db.close()  # SQLite lets the side files be, where the file has been moved
        if inode(self._path) != self._identity[0]:
            self._clear_log()

    def _clear_log(self) -> None:
        """The file that was put in place of ours must not take up what ours has left in its log."""
        for suffix, own in zip(SIDE_FILES, self._identity[1:], strict=True):
            place = Path(f"{self._path}{suffix}")
            if own is not None and inode(place) == own:
                place.unlink()


def identity(path: Path) -> Identity:
    return tuple(inode(f"{path}{suffix}") for suffix in ("", *SIDE_FILES))


def inode(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - thrice before each use, and a Path is slow
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_broken(error: Exception) -> bool:
    """The lowest byte is the kind of error, the others only say more of it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN


@contextmanager
def only_opener(directory: Path, patience: float) -> Iterator[None]:
    """Of two at once, one could move aside as corrupt what the other has just begun."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + patience
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


def opened(
    path: Path, schema: str, version: int, patience: float | None = None
) -> sqlite3.Connection:
    """``schema``: the SQL that makes a new one, and sets its ``user_version`` to ``version``.

    ``patience``: seconds to wait for others. Raises StoreUnusable.
    """
    patience = OPEN_PATIENCE if patience is None else patience
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with only_opener(path.parent, patience):
            try:
                return connected(path, schema, version, patience)
            except Corrupt:
                log.warning("store.corrupt", moved_to=str(moved_aside(path)))
                return connected(path, schema, version, patience)


def connected(path: Path, schema: str, version: int, patience: float) -> sqlite3.Connection:
    """Ready for use. Raises Corrupt, OSError, StoreUnusable, sqlite3.Error."""
    make_private(path)
    db = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        prepare(db, path, schema, version)
        db.execute(f"PRAGMA busy_timeout = {round(PATIENCE * 1_000)}")
    except Exception as error:
        db.close()
        if is_broken(error):
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
