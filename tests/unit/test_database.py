"""A file that goes, is replaced or breaks while it is open: nothing more goes into what is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from claude_proxy.database import Database, StoreUnusable

VERSION = 1
SCHEMA = f"CREATE TABLE note (text TEXT); PRAGMA user_version = {VERSION};"
PAGES = 3_000  # more than SQLite keeps in memory


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "notes.db"


@pytest.fixture
def database(path):
    with closing(Database(path, SCHEMA, VERSION)) as database:
        yield database


def add(database, text):
    with database.use() as db:
        db.execute("INSERT INTO note VALUES (?)", (text,))


def notes(database):
    with database.use() as db:
        return [text for (text,) in db.execute("SELECT text FROM note")]


def on_disk(path):
    """What another program finds in the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [text for (text,) in db.execute("SELECT text FROM note")]


def side_file(path, suffix):
    return path.with_name(path.name + suffix)


def copied_over(path):
    """A backup, by rename."""
    spare = path.with_name("spare")
    with closing(sqlite3.connect(spare)) as db:
        db.executescript(SCHEMA + "INSERT INTO note VALUES ('restored');")
    spare.replace(path)


GONE = {
    "the file": lambda path: path.unlink(),
    "all files": lambda path: [file.unlink() for file in path.parent.iterdir()],
    "the directory": lambda path: shutil.rmtree(path.parent),
    "the directory's name": lambda path: path.parent.rename(path.parent.with_name("away")),
}


@pytest.mark.parametrize("what", GONE)
def test_what_is_written_after_the_file_has_gone_is_in_a_new_one(database, path, what):
    add(database, "before")
    GONE[what](path)
    with capture_logs() as logs:
        add(database, "after")
        add(database, "later")
    assert notes(database) == on_disk(path) == ["after", "later"]
    assert [line["event"] for line in logs] == ["store.opened_anew"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_without_one_of_its_side_files_nothing_is_lost(database, path, suffix):
    add(database, "before")
    side_file(path, suffix).unlink()
    add(database, "after")
    assert notes(database) == on_disk(path) == ["before", "after"]


def test_a_file_put_in_place_of_it_is_used_as_it_is(database, path):
    add(database, "before")
    copied_over(path)
    add(database, "after")
    assert notes(database) == on_disk(path) == ["restored", "after"]


def test_the_log_of_the_lost_file_does_not_get_into_the_one_in_its_place(database, path):
    add(database, "x" * 100_000)
    copied_over(path)
    assert notes(database) == on_disk(path) == ["restored"]


def test_while_the_file_lives_it_stays_open(database, path):
    with closing(Database(path, SCHEMA, VERSION)) as other:
        add(other, "other's")
    with capture_logs() as logs:
        add(database, "own")
        with database.use() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert notes(database) == ["other's", "own"]
    assert logs == []


def test_of_two_daemons_neither_takes_the_new_file_from_the_other(database, path):
    """The second closes what the first has left already, under the names of the new files."""
    late = Database(path, SCHEMA, VERSION)
    GONE["the directory"](path)
    add(database, "first")
    add(late, "second")
    assert side_file(path, "-wal").exists()
    late.close()
    with capture_logs() as logs:
        add(database, "third")
    assert logs == []
    assert notes(database) == on_disk(path) == ["first", "second", "third"]


LAST = """
import sys
from pathlib import Path
from claude_proxy.database import Database
path, schema = Path(sys.argv[1]), sys.argv[2]
late = Database(path, schema, 1)
print("open", flush=True)
sys.stdin.readline()
with late.use() as db:
    db.execute("INSERT INTO note VALUES ('second')")
"""


def test_nor_at_the_end_of_its_process(database, path):
    late = subprocess.Popen(
        [sys.executable, "-c", LAST, path, SCHEMA],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with late:
        assert late.stdout.readline() == "open\n"
        GONE["all files"](path)
        add(database, "first")
        late.communicate("go\n", timeout=30)
    assert late.returncode == 0
    assert side_file(path, "-wal").exists()
    assert notes(database) == on_disk(path) == ["first", "second"]


def test_a_place_that_cannot_be_used_is_tried_again(database, path):
    GONE["all files"](path)
    path.mkdir()
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(StoreUnusable, match="not a regular file"):
                add(database, "lost")
    assert len(logs) == 1
    path.rmdir()
    add(database, "kept")
    assert notes(database) == on_disk(path) == ["kept"]


def fill(database):
    with database.use() as db:
        db.executemany("INSERT INTO note VALUES (?)", [("x" * 4_000,)] * PAGES)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


BREAKS = {
    "overwritten": lambda path: overwrite(path, os.urandom(4_096 * PAGES)),
    "cut": lambda path: os.truncate(path, 8_192),
}


def overwrite(path, data):
    """In place."""
    with path.open("r+b") as file:
        file.write(data)


@pytest.mark.parametrize("how", BREAKS)
def test_one_that_breaks_in_use_is_moved_aside_at_the_next_use(database, path, how):
    fill(database)
    BREAKS[how](path)
    with pytest.raises(StoreUnusable, match=r"malformed|not a database"):
        notes(database)
    with capture_logs() as logs:
        add(database, "after")
    assert [line["event"] for line in logs] == ["store.opened_anew", "store.corrupt"]
    assert logs[0]["broken"] is True
    assert Path(logs[1]["moved_to"]).stat().st_size > 0
    assert notes(database) == on_disk(path) == ["after"]


def test_an_error_that_breaks_nothing_changes_nothing(database):
    add(database, "before")
    with capture_logs() as logs:
        with pytest.raises(StoreUnusable, match="no such table"), database.use() as db:
            db.execute("SELECT * FROM missing")
        assert notes(database) == ["before"]
    assert logs == []


def test_closed_it_stays_closed(database, path):
    database.close()
    GONE["all files"](path)
    with pytest.raises(StoreUnusable, match="closed"):
        add(database, "late")
    assert not path.exists()
