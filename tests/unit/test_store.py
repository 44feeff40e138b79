"""Stored responses: what is found again, what goes and when, and what a broken file leads to."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from claude_proxy import database
from claude_proxy import store as module
from claude_proxy.store import RecentItems, Record, Store, StoreUnusable, chain

ROOT = Path(__file__).parents[2]
LIMIT = 64 * 1024**2
NOW = 1_800_000_000
DAY = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def time(self) -> float:
        return self.now

    monotonic = staticmethod(monotonic)
    sleep = staticmethod(sleep)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(database, "time", clock)
    return clock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "responses.db"


@pytest.fixture
def open_store(path):
    """Opens stores on one file, and closes them after the test."""
    opened: list[Store] = []

    def open_one(at=None, *, days=30.0, limit=LIMIT) -> Store:
        opened.append(Store.open(at or path, days=days, limit=limit))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


def record(id_, history=(), asked=(b"question",), said=None, *, body=b"{}", created=NOW) -> Record:
    said = {f"{id_}-said": f"answer {id_}".encode()} if said is None else said
    return Record(id_, created, body, list(history), list(asked), said)


def whole(kept: Record) -> list[bytes]:
    return [*kept.history, *kept.asked, *kept.said.values()]


def continued(kept: Record, id_: str, **more) -> Record:
    return record(id_, whole(kept), **more)


def rows(store: Store, table: str) -> int:
    return store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def prefixes(conversations) -> int:
    """Nodes that so many conversations need, and no more."""
    return len({tuple(items[:n]) for items in conversations for n in range(1, len(items) + 1)})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def set_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.corrupt-*"))


# What is kept, and how it is found again.


def test_a_response_is_found_again_in_all_its_parts(store):
    first = record("r1", [b"system", b"hello"], [b"q1", b"q2"], {"a": b"x", "b": b"y"}, body=b"B")
    store.put(first)
    assert store.get("r1") == b"B"
    assert store.context("r1") == [b"system", b"hello", b"q1", b"q2", b"x", b"y"]
    assert store.asked("r1") == [b"q1", b"q2"]
    assert (store.item("a"), store.item("b")) == (b"x", b"y")


def test_nothing_is_known_of_an_unknown_id(store):
    store.put(record("known"))
    assert store.get("other") is store.context("other") is store.asked("other") is None
    assert store.item("other") is None
    assert store.item("known") is None
    assert store.delete("other") is False


@pytest.mark.parametrize("history", [[], [b"h1", b"h2"]])
@pytest.mark.parametrize("asked", [[], [b"q"]])
@pytest.mark.parametrize("said", [{}, {"i": b"a"}])
def test_any_part_may_be_missing(store, history, asked, said):
    store.put(record("r", history, asked, said))
    assert store.context("r") == [*history, *asked, *said.values()]
    assert store.asked("r") == asked
    assert store.get("r") == b"{}"
    assert store.delete("r") is True
    assert rows(store, "node") == rows(store, "output") == 0


@given(
    parts=st.lists(st.lists(st.binary(max_size=40), max_size=4), min_size=3, max_size=3),
    body=st.binary(max_size=50),
    id_=st.text(max_size=10),
)
@settings(max_examples=50, deadline=None)
def test_any_bytes_and_any_id_come_back_as_they_were(parts, body, id_):
    history, asked, said = parts
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory) / "db", days=1, limit=LIMIT)
        named = {f"{id_}{n}": item for n, item in enumerate(said)}
        store.put(Record(id_, NOW, body, history, asked, named))
        assert store.get(id_) == body
        assert store.context(id_) == [*history, *asked, *said]
        assert store.asked(id_) == asked
        assert [store.item(name) for name in named] == said
        store.close()


def test_equal_items_one_after_the_other_stay_as_many_as_they_were(store):
    store.put(record("r", [b"same"] * 3, [b"same"] * 2, {"1": b"same", "2": b"same"}))
    assert store.context("r") == [b"same"] * 7
    assert store.asked("r") == [b"same"] * 2


def test_responses_outlive_the_process_that_kept_them(open_store):
    first = open_store()
    kept = record("r", [b"h"])
    first.put(kept)
    first.close()
    later = open_store()
    assert later.context("r") == whole(kept)
    assert later.item("r-said") == b"answer r"


def test_a_put_of_the_same_id_replaces_all_of_it(store):
    store.put(record("r", [b"old"], [b"old q"], {"old": b"old a"}, body=b"old"))
    store.put(record("r", [b"new"], [b"new q"], {"new": b"new a"}, body=b"new"))
    assert store.get("r") == b"new"
    assert store.context("r") == [b"new", b"new q", b"new a"]
    assert store.item("old") is None
    assert store.item("new") == b"new a"
    assert (rows(store, "response"), rows(store, "node"), rows(store, "output")) == (1, 3, 1)


def test_the_same_put_twice_changes_nothing(store):
    kept = record("r", [b"h"])
    store.put(kept)
    store.put(kept)
    assert store.context("r") == whole(kept)
    assert store.item("r-said") == b"answer r"
    assert (rows(store, "response"), rows(store, "node"), rows(store, "output")) == (1, 3, 1)


def test_of_two_outputs_with_one_id_the_later_counts(store):
    store.put(record("r1", said={"i": b"early"}))
    store.put(record("r2", said={"i": b"late"}))
    assert store.item("i") == b"late"
    assert store.context("r1") == [b"question", b"early"]


# One chain for all who share it.


def test_a_conversation_sent_whole_with_every_turn_keeps_each_item_once(store):
    turn = record("0")
    store.put(turn)
    for n in range(1, 20):
        turn = continued(turn, str(n), asked=[b"question %d" % n])
        store.put(turn)
    assert rows(store, "node") == 40
    assert store.context("19") == whole(turn)
    assert store.context("3") == whole(turn)[:8]


def test_branches_share_what_lies_before_them(store):
    root = record("root", [b"h1", b"h2"])
    left = continued(root, "left")
    right = continued(root, "right")
    for kept in (root, left, right):
        store.put(kept)
    # Both ask the same, so only their answers differ.
    assert rows(store, "node") == 4 + 1 + 2
    assert store.context("left") == whole(left)
    assert store.context("right") == whole(right)


def test_the_same_item_at_another_place_is_another_node(store):
    store.put(record("r1", [], [b"a", b"b"], {}))
    store.put(record("r2", [], [b"b", b"a"], {}))
    assert rows(store, "node") == 4
    assert store.context("r2") == [b"b", b"a"]


def test_no_item_can_pass_for_two(store):
    name = chain([b"first"])[1]
    assert chain([name + b"second"])[-1] != chain([b"first", b"second"])[-1]
    assert chain([b"ab", b"c"])[-1] != chain([b"a", b"bc"])[-1]
    assert chain([]) == [None]


def test_what_was_continued_stays_whole_without_the_earlier_response(store):
    first = record("first")
    second = continued(first, "second")
    store.put(first)
    store.put(second)
    assert store.delete("first") is True
    assert store.get("first") is store.context("first") is store.item("first-said") is None
    assert store.context("second") == whole(second)
    assert store.asked("second") == [b"question"]
    assert store.delete("second") is True
    assert rows(store, "node") == 0


def test_a_deleted_branch_leaves_the_other_branch_and_what_they_share(store):
    root, left = record("root"), None
    left, right = continued(root, "left"), continued(root, "right", asked=[b"other"])
    for kept in (root, left, right):
        store.put(kept)
    store.delete("root")
    store.delete("left")
    assert store.context("right") == whole(right)
    assert rows(store, "node") == len(whole(right))


def test_two_responses_that_end_at_one_node_need_it_until_both_are_gone(store):
    store.put(record("r1", said={}))
    store.put(record("r2", said={}))
    assert rows(store, "node") == 1
    store.delete("r1")
    assert store.context("r2") == [b"question"]
    store.delete("r2")
    assert rows(store, "node") == 0


def test_a_long_conversation_goes_in_comes_out_and_goes(store):
    items = [b"item %d" % n for n in range(5_000)]
    store.put(record("long", items[:-2], [items[-2]], {"last": items[-1]}))
    assert rows(store, "node") == 5_000
    assert store.context("long") == items
    assert store.asked("long") == [items[-2]]
    store.put(record("more", items))
    assert store.context("more") == [*items, b"question", b"answer more"]
    store.delete("long")
    assert store.context("more")[:5_000] == items
    store.delete("more")
    assert rows(store, "node") == 0


def test_a_further_turn_of_a_long_conversation_looks_at_few_nodes_and_writes_fewer(store):
    items = [b"item %d" % n for n in range(2_000)]
    store.put(record("long", items[:-1], [], {"last": items[-1]}))
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)
    store.put(record("turn", items))
    store._db.set_trace_callback(None)
    assert sum(said.startswith("INSERT INTO node") for said in statements) == 2
    assert len(statements) < 40


IDS = st.sampled_from([f"r{n}" for n in range(8)])
ITEMS = st.lists(st.sampled_from([b"a", b"b", b"", b"c" * 3_000]), max_size=3)
OUTPUTS = st.dictionaries(
    st.sampled_from([f"i{n}" for n in range(12)]),
    st.sampled_from([b"x", b"", b"y" * 5_000]),
    max_size=2,
)


class Comparison(RuleBasedStateMachine):
    """A store beside plain dicts that say what it must hold."""

    @initialize()
    def begin(self):
        self.clock = Clock()
        self.patched = patch.object(module, "time", self.clock)
        self.patched.start()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "db"
        self.stores = [self.opened(), self.opened()]
        self.kept: dict[str, Record] = {}
        self.items: dict[str, tuple[str, bytes]] = {}

    def opened(self) -> Store:
        return Store.open(self.path, days=2, limit=LIMIT)

    def visible(self, id_: str) -> bool:
        return id_ in self.kept and self.kept[id_].created >= self.clock.now - 2 * DAY

    def forget(self, id_: str) -> None:
        self.kept.pop(id_, None)
        self.items = {name: held for name, held in self.items.items() if held[0] != id_}

    def put(self, which: int, new: Record) -> None:
        self.stores[which].put(new)
        self.forget(new.id)
        self.kept[new.id] = new
        self.items |= {name: (new.id, item) for name, item in new.said.items()}

    @rule(which=st.integers(0, 1), id_=IDS, history=ITEMS, asked=ITEMS, said=OUTPUTS)
    def put_new(self, which, id_, history, asked, said):
        self.put(which, Record(id_, int(self.clock.now), b"body", history, asked, said))

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 1), data=st.data(), id_=IDS, asked=ITEMS, said=OUTPUTS)
    def put_continued(self, which, data, id_, asked, said):
        before = whole(self.kept[data.draw(st.sampled_from(sorted(self.kept)))])
        history = before[: data.draw(st.integers(0, len(before)) | st.just(len(before)))]
        self.put(which, Record(id_, int(self.clock.now), b"more", history, asked, said))

    @rule(which=st.integers(0, 1), id_=IDS)
    def delete(self, which, id_):
        assert self.stores[which].delete(id_) is self.visible(id_)
        self.forget(id_)

    @rule(hours=st.integers(1, 40))
    def wait(self, hours):
        self.clock.now += hours * 3_600

    @rule(which=st.integers(0, 1))
    def expire(self, which):
        self.stores[which].expire()
        for id_ in [id_ for id_ in self.kept if not self.visible(id_)]:
            self.forget(id_)

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.stores[which].close()
        self.stores[which] = self.opened()

    @invariant()
    def both_say_the_same(self):
        for store in self.stores:
            for id_ in (f"r{n}" for n in range(8)):
                held = self.kept[id_] if self.visible(id_) else None
                assert store.get(id_) == (held and held.body)
                assert store.context(id_) == (held and whole(held))
                assert store.asked(id_) == (held and held.asked)
            for name in (f"i{n}" for n in range(12)):
                owner, item = self.items.get(name, ("", b""))
                assert store.item(name) == (item if self.visible(owner) else None)

    @invariant()
    def no_node_is_missing_or_too_many(self):
        assert rows(self.stores[0], "node") == prefixes(map(whole, self.kept.values()))
        assert rows(self.stores[0], "output") == len(self.items)
        assert self.stores[0]._db.execute("PRAGMA freelist_count").fetchone() == (0,)

    def teardown(self):
        if not hasattr(self, "stores"):
            return
        for id_ in list(self.kept):
            self.stores[0].delete(id_)
        for table in ("response", "node", "output"):
            assert rows(self.stores[1], table) == 0
        for store in self.stores:
            store.close()
        assert files(self.path) == {"db"}
        self.directory.cleanup()
        self.patched.stop()


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# Time.


def test_what_is_too_old_is_out_of_sight_before_anybody_removes_it(open_store, clock):
    store = open_store(days=2)
    store.put(record("r"))
    clock.now += 2 * DAY
    assert store.get("r") == b"{}"
    clock.now += 1
    assert store.get("r") is store.context("r") is store.asked("r") is None
    assert store.item("r-said") is None
    assert rows(store, "response") == 1
    assert store.delete("r") is False
    assert rows(store, "response") == rows(store, "node") == 0


def test_expiry_removes_the_old_and_leaves_what_goes_on_from_it_whole(open_store, clock):
    store = open_store(days=0.5)
    old, other = record("old"), record("other", [b"elsewhere"])
    store.put(old)
    store.put(other)
    clock.now += DAY / 2
    store.expire()
    assert rows(store, "response") == 2
    new = continued(old, "new", created=int(clock.now))
    store.put(new)
    clock.now += 1
    store.expire()
    assert rows(store, "response") == 1
    assert store.context("new") == whole(new)
    assert rows(store, "node") == len(whole(new))


def test_without_an_end_of_days_nothing_grows_old(open_store, clock):
    store = open_store(days=float("inf"))
    store.put(record("r", created=0))
    store.expire()
    assert store.get("r") == b"{}"


# Size.


def size(store: Store) -> int:
    pages, page = store._number("page_count"), store._number("page_size")
    return (pages - store._number("freelist_count")) * page


def test_above_the_limit_the_oldest_make_room_for_the_newest(open_store):
    limit = 1024**2
    store = open_store(limit=limit)
    for n in range(100):
        store.put(record(f"r{n}", asked=[random.randbytes(40_000)], created=NOW + n))
        assert size(store) <= limit
        assert store.get(f"r{n}") == b"{}"
    left = [n for n in range(100) if store.get(f"r{n}") is not None]
    assert left == list(range(100 - len(left), 100))
    assert 15 <= len(left) <= 26  # no more went than had to
    assert rows(store, "node") == 2 * len(left)


def test_the_oldest_is_the_one_that_was_made_first_whenever_it_was_put(open_store):
    store = open_store(limit=512 * 1024)
    for id_, created in [("middle", NOW), ("young", NOW + 1), ("old", NOW - 1)]:
        store.put(record(id_, asked=[random.randbytes(120_000)], created=created))
    store.put(record("new", asked=[random.randbytes(120_000)], created=NOW + 2))
    assert [store.get(id_) is None for id_ in ("old", "middle", "young", "new")] == [
        *(True, False, False, False),
    ]


def test_the_one_just_put_stays_even_if_it_is_the_oldest(open_store):
    store = open_store(limit=512 * 1024)
    for n in range(3):
        store.put(record(f"r{n}", asked=[random.randbytes(120_000)], created=NOW + n))
    store.put(record("late", asked=[random.randbytes(120_000)], created=NOW - DAY))
    assert store.get("late") == b"{}"
    assert store.get("r0") is None
    assert store.get("r1") == store.get("r2") == b"{}"


def test_one_that_is_larger_than_the_limit_is_refused_without_any_work(open_store):
    store = open_store(limit=512 * 1024)
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)
    with pytest.raises(StoreUnusable, match="too few"):
        store.put(record("huge", body=bytes(512 * 1024)))
    assert statements == []


@pytest.mark.parametrize("length", [512 * 1024 - 4_000, 512 * 1024 + 1])
def test_one_that_would_not_fit_alone_is_refused_and_removes_nobody(open_store, length):
    store = open_store(limit=512 * 1024)
    small = record("small")
    store.put(small)
    with pytest.raises(StoreUnusable, match="524288 bytes are too few"):
        store.put(record("huge", asked=[bytes(length)]))
    assert store.get("huge") is None
    assert store.context("small") == whole(small)
    store.put(record("next"))
    assert store.get("next") == b"{}"


def test_the_file_shrinks_when_its_content_goes(open_store, path):
    store = open_store()
    for n in range(20):
        store.put(record(f"r{n}", asked=[random.randbytes(100_000)]))
    store.close()
    assert path.stat().st_size > 2_000_000
    store = open_store()
    for n in range(19):
        store.delete(f"r{n}")
    store.close()
    assert path.stat().st_size < 250_000
    assert open_store().get("r19") == b"{}"


def test_the_file_shrinks_to_a_smaller_limit_with_the_next_put(open_store, path):
    store = open_store()
    for n in range(20):
        store.put(record(f"r{n}", asked=[random.randbytes(100_000)], created=NOW + n))
    store.close()
    store = open_store(limit=300_000)
    store.put(record("new", created=NOW + 100))
    assert store.get("r19") == store.get("new") == b"{}"
    assert store.get("r0") is None
    store.close()
    assert path.stat().st_size <= 300_000


@pytest.mark.parametrize("length", [20, 500, 20_000])
def test_of_what_was_deleted_no_byte_stays_in_the_files(store, path, length):
    secret = b"<secret %s>" % (b"s" * length)
    store.put(record("other", asked=[b"stays"]))
    store.put(record("r", asked=[secret], said={"i": secret}, body=secret))
    other = sqlite3.connect(path)
    try:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert b"<secret" in path.read_bytes()
        store.delete("r")
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    finally:
        other.close()
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"<secret" not in left
    assert b"sss" not in left
    assert b"stays" in left


# The file, and who may read it.


def test_directory_and_files_are_their_owners_alone(open_store, path):
    before = os.umask(0)
    try:
        open_store().put(record("r"))
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert files(path) == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert {mode(file) for file in path.parent.iterdir()} == {0o600}


def test_the_files_are_never_anybody_elses_not_even_at_first(open_store, path, monkeypatch):
    monkeypatch.setattr(database, "FILES", ())  # nothing is mended afterwards
    before = os.umask(0)
    try:
        open_store().put(record("r"))
    finally:
        os.umask(before)
    assert {mode(file) for file in path.parent.iterdir()} == {0o600}


def test_modes_that_were_too_wide_are_mended(open_store, path):
    open_store().put(record("r"))
    for file in path.parent.iterdir():
        file.chmod(0o644)
    assert open_store().get("r") == b"{}"
    assert {mode(file) for file in path.parent.iterdir()} == {0o600}


def test_an_existing_directory_keeps_its_mode(open_store, path):
    path.parent.mkdir(mode=0o750)
    path.parent.chmod(0o750)
    open_store()
    assert mode(path.parent) == 0o750


def test_the_database_is_set_up_as_it_must_be(store):
    assert store._number("auto_vacuum") == 2
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._number("synchronous") == 1
    assert store._number("busy_timeout") == 250
    assert store._number("foreign_keys") == store._number("secure_delete") == 1
    assert store._number("journal_size_limit") == 8 * 1024**2
    assert store._number("user_version") == 1


def test_a_newer_version_is_left_alone_and_named(open_store, path):
    store = open_store()
    store.put(record("r"))
    store._db.execute("PRAGMA user_version = 2")
    store.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable) as raised:
        open_store()
    assert str(path) in str(raised.value)
    assert "version 2" in str(raised.value)
    assert "only 1" in str(raised.value)
    assert path.read_bytes() == before
    assert files(path) == {path.name}


# A corrupt file is moved aside.


def filled(open_store) -> None:
    store = open_store()
    for n in range(100):
        store.put(record(f"r{n}", asked=[random.randbytes(2_000)]))
    store.close()


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(50_000))


def short_text(path: Path) -> None:
    path.write_bytes(b"no database")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def truncated_within_a_page(path: Path) -> None:
    os.truncate(path, 4096 * 5 + 100)


def overwritten(path: Path) -> None:
    """The header, and the tables that it leads to, are well."""
    with path.open("r+b") as file:
        file.seek(4096 * 12)
        file.write(random.Random(2).randbytes(4096 * 20))


def schema_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(random.Random(3).randbytes(3_000))


@pytest.mark.parametrize(
    "damage",
    [garbage, short_text, truncated, truncated_within_a_page, overwritten, schema_overwritten],
)
def test_a_corrupt_file_is_moved_aside_and_a_new_one_begun(open_store, path, damage):
    filled(open_store)
    damage(path)
    path.chmod(0o644)
    with capture_logs() as logs:
        store = open_store()
    [moved] = set_aside(path)
    assert moved.name == f"{path.name}.corrupt-{NOW}"
    assert logs == [{"event": "store.corrupt", "log_level": "warning", "moved_to": str(moved)}]
    assert mode(moved) == mode(path) == 0o600
    assert store.get("r1") is None
    store.put(record("new"))
    assert open_store().context("new") == [b"question", b"answer new"]
    assert set_aside(path) == [moved]


def test_side_files_of_a_corrupt_file_do_not_get_into_the_new_one(open_store, path):
    path.parent.mkdir()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"no database" * 1_000)
    store = open_store()
    assert len(set_aside(path)) == 1
    store.put(record("r"))
    store.close()
    assert b"no database" not in path.read_bytes()
    store = open_store()
    assert store.get("r") == b"{}"


def test_all_side_files_are_renamed(path):
    path.parent.mkdir()
    names = [path.name + suffix for suffix in ("", "-wal", "-shm", "-journal")]
    for name in names:
        path.with_name(name).write_text(name)
    place = database.moved_aside(path)
    assert files(path) == {place.name + name.removeprefix(path.name) for name in names}
    assert place.with_name(f"{place.name}-wal").read_text() == f"{path.name}-wal"


def test_two_corrupt_files_within_a_second_are_both_kept(open_store, path):
    path.parent.mkdir()
    for text in (b"first", b"second"):
        path.write_bytes(text)
        open_store().close()
    assert [moved.read_bytes() for moved in set_aside(path)] == [b"first", b"second"]


def test_an_empty_file_is_a_beginning_not_a_corrupt_one(open_store, path):
    path.parent.mkdir()
    path.touch(mode=0o644)
    open_store().put(record("r"))
    assert set_aside(path) == []
    assert mode(path) == 0o600


def test_a_file_that_is_corrupt_again_at_once_is_not_moved_for_ever(path, monkeypatch):
    def corrupt(*_: object) -> sqlite3.Connection:
        raise database.Corrupt("broken disk")

    monkeypatch.setattr(database, "connected", corrupt)
    with pytest.raises(StoreUnusable, match="broken disk"):
        Store.open(path, days=1, limit=LIMIT)


# What cannot be used is said, and left alone.


def test_a_parent_that_is_a_file_makes_it_unusable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match=r"Not a directory|File exists"):
        Store.open(tmp_path / "file" / "db", days=1, limit=LIMIT)
    with pytest.raises(StoreUnusable, match=r"Not a directory|File exists"):
        Store.open(tmp_path / "file" / "below" / "db", days=1, limit=LIMIT)


def test_a_directory_in_its_place_makes_it_unusable_and_keeps_its_mode(path):
    path.mkdir(parents=True, mode=0o755)
    with pytest.raises(StoreUnusable, match="not a regular file"):
        Store.open(path, days=1, limit=LIMIT)
    assert path.is_dir()
    assert mode(path) == 0o755
    assert files(path) == {path.name}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_the_right_to_write_makes_it_unusable(path):
    path.parent.mkdir(mode=0o500)
    with pytest.raises(StoreUnusable, match="Permission denied"):
        Store.open(path, days=1, limit=LIMIT)
    assert files(path) == set()


def test_what_sqlite_cannot_open_is_not_taken_for_corrupt(open_store, path):
    filled(open_store)
    path.with_name(f"{path.name}-wal").mkdir()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="unable to open database file"):
        open_store()
    assert set_aside(path) == []
    assert path.read_bytes() == before


def test_one_that_another_locks_for_good_is_not_taken_for_corrupt(open_store, path, monkeypatch):
    monkeypatch.setattr(database, "OPEN_PATIENCE", 0.01)
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE foreign_one (x)")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreUnusable, match="database is locked"):
            open_store()
    finally:
        other.close()
    assert set_aside(path) == []
    assert open_store().get("r") is None


def test_a_closed_store_says_so(open_store):
    store = open_store()
    store.close()
    store.close()
    uses = (
        lambda: store.put(record("r")),
        *(lambda use=use: use("r") for use in (store.get, store.delete, store.context)),
        *(lambda use=use: use("r") for use in (store.asked, store.item)),
        store.expire,
    )
    for use in uses:
        with pytest.raises(StoreUnusable, match="closed"):
            use()


def test_messages_and_their_causes_hold_no_content(store, path):
    store._db.execute("DROP TABLE output")
    with pytest.raises(StoreUnusable) as raised:
        store.put(record("secret-id", [b"secret"], [b"secret"], {"secret": b"secret"}))
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("more_pages", [0, 1, 5, 20, 60])
def test_a_full_disk_leaves_nothing_half_and_the_next_put_works(store, more_pages):
    first = record("first")
    store.put(first)
    pages = store._number("page_count") + more_pages
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnusable, match="full"):
        store.put(continued(first, "second", asked=[b"i" * 5_000] * 50, body=bytes(100_000)))
    assert store.get("second") is None
    assert (rows(store, "response"), rows(store, "node"), rows(store, "output")) == (1, 2, 1)
    store._db.execute("PRAGMA max_page_count = 1000000")
    second = continued(first, "second")
    store.put(second)
    assert store.context("second") == whole(second)


@pytest.mark.parametrize("at", ["INSERT ON node", "INSERT ON response", "INSERT ON output"])
def test_a_replacement_that_fails_leaves_what_was_there(store, at):
    old = record("r", [b"h"], body=b"old")
    store.put(old)
    store._db.execute(f"CREATE TRIGGER broken BEFORE {at} BEGIN SELECT RAISE(ABORT, 'broken'); END")
    with pytest.raises(StoreUnusable, match="broken"):
        store.put(record("r", [b"other"], body=b"new"))
    assert store.get("r") == b"old"
    assert store.context("r") == whole(old)
    assert store.item("r-said") == b"answer r"
    store._db.execute("DROP TRIGGER broken")
    store.put(record("r", [b"other"], body=b"new"))
    assert store.get("r") == b"new"


def test_a_locked_database_is_said_and_works_again_afterwards(store, path):
    store._db.execute("PRAGMA busy_timeout = 10")
    store.put(record("r"))
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        for change in (lambda: store.put(record("s")), lambda: store.delete("r"), store.expire):
            with pytest.raises(StoreUnusable, match="database is locked"):
                change()
        assert store.get("r") == b"{}"  # who reads need not wait
        assert store.context("r") == [b"question", b"answer r"]
        other.execute("COMMIT")
    finally:
        other.close()
    store.put(record("s"))
    assert store.get("s") == b"{}"


# Several at once.


def test_two_stores_on_one_file_see_each_others_changes(open_store):
    one, other = open_store(), open_store()
    first = record("first")
    one.put(first)
    assert other.context("first") == whole(first)
    second = continued(first, "second")
    other.put(second)
    assert other.delete("first") is True
    assert one.get("first") is None
    assert one.context("second") == whole(second)
    assert rows(one, "node") == 4
    one.close()
    assert other.get("second") == b"{}"


def test_opening_a_second_store_does_not_end_the_locks_of_the_first(open_store, path):
    first = open_store()
    first.put(record("r"))
    open_store().close()
    other = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None);"
        " db.execute('PRAGMA journal_mode = DELETE')"
    )
    tried = subprocess.run(
        [sys.executable, "-c", other, path], check=False, capture_output=True, text=True
    )
    assert "database is locked" in tried.stderr
    assert first.get("r") == b"{}"


PUTTER = """
import itertools, sys
from pathlib import Path
from claude_proxy.store import Record, Store

path, name, turns = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
if sys.stdin.readline() != "go\\n":
    sys.exit("nobody to start for")
store = Store.open(path, days=1e6, limit=2**30)
store._db.execute("PRAGMA busy_timeout = 60000")  # how long it waits is not what is tested
history = []
for n in range(turns) if turns else itertools.count():
    item = f"{name}-{n}".encode()
    scrap = Record(f"{name}-scrap", 0, b"scrap", history[:5], [item * 999], {f"{name}-s": b"s"})
    store.put(scrap)
    said = {f"{name}-{n}-said": item}
    store.put(Record(f"{name}-{n}", 0, item, history, [item], said))
    store.delete(scrap.id)
    history = [*history, item, item][-40:] if n % 30 else []
    print(f"{name}-{n}", flush=True)
"""


def putter(path: Path, name: str, turns: int) -> subprocess.Popen[str]:
    """A process that prints the id of each response after it was put."""
    return subprocess.Popen(
        [sys.executable, "-c", PUTTER, path, name, str(turns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def assert_sound(store: Store, ids: list[str]) -> None:
    """All are there, and no node or output that nobody needs."""
    for id_ in ids:
        assert store.get(id_) == store.item(f"{id_}-said") == id_.encode()
        assert store.asked(id_) == [id_.encode()]
        assert store.context(id_)[-2:] == [id_.encode()] * 2
    known = [id_ for (id_,) in store._db.execute("SELECT id FROM response")]
    assert rows(store, "node") == prefixes(store.context(id_) for id_ in known)
    assert rows(store, "output") == len(known)
    assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert store._db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_processes_that_begin_at_the_same_moment_share_one_file(open_store, path):
    processes = [putter(path, f"p{n}", 40) for n in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    printed = [line for process in processes for line in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(printed) == 160
    assert set_aside(path) == []
    assert_sound(open_store(days=1e6), printed)


def test_of_processes_that_find_a_corrupt_file_only_one_moves_it(open_store, path):
    path.parent.mkdir()
    garbage(path)
    processes = [putter(path, f"p{n}", 10) for n in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    printed = [line for process in processes for line in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set_aside(path)) == 1
    # Whoever moved it has printed so, too.
    ids = [word for word in printed if re.fullmatch(r"p\d-\d+", word)]
    assert len(ids) == 40
    assert_sound(open_store(days=1e6), ids)


def test_what_was_put_before_a_sigkill_is_there_after_it(open_store, path):
    chance = random.Random(7)
    printed: list[str] = []
    for attempt in range(8):
        with putter(path, f"p{attempt}", 0) as process:
            assert process.stdout.readline() == "ready\n"
            go(process)
            for _ in range(chance.randint(1, 120)):
                printed += process.stdout.readline().split()
            process.send_signal(signal.SIGKILL)
            printed += [line.strip() for line in process.stdout if line.endswith("\n")]
        assert process.returncode == -signal.SIGKILL
        store = open_store(days=1e6)
        assert_sound(store, printed)
        store.close()
    assert set_aside(path) == []
    assert len(set(printed)) == len(printed) > 8


# Items in memory.


def test_recent_items_are_found_by_their_ids():
    recent = RecentItems()
    recent.add({"a": b"1", "b": b"2"})
    recent.add({"c": b"3"})
    assert [recent.get(id_) for id_ in "abcd"] == [b"1", b"2", b"3", None]


def test_above_the_limit_the_oldest_item_is_forgotten():
    recent = RecentItems(33)
    for id_ in "abc":
        recent.add({id_: bytes(10)})
    assert recent.get("a") == bytes(10)
    recent.add({"d": b""})
    assert recent.get("a") is None
    assert recent.get("b") == recent.get("c") == bytes(10)
    assert recent.get("d") == b""


def test_an_item_that_comes_again_is_new_and_counts_once():
    recent = RecentItems(30)
    recent.add({"a": bytes(9), "b": bytes(9)})
    recent.add({"a": b"again 789"})
    recent.add({"c": bytes(9)})
    assert recent.get("b") == bytes(9)
    recent.add({"d": bytes(9)})
    assert recent.get("b") is None
    assert recent.get("a") == b"again 789"


def test_an_item_above_the_limit_is_not_kept_and_drives_nobody_out():
    recent = RecentItems(20)
    recent.add({"a": bytes(5)})
    recent.add({"b": bytes(20)})
    assert recent.get("b") is None
    assert recent.get("a") == bytes(5)
    recent.add({"a": bytes(20)})
    assert recent.get("a") is None


def test_the_default_limit_is_sixteen_mebibytes():
    recent = RecentItems()
    for n in range(40):
        recent.add({f"{n:02}": bytes(1024**2 - 2)})
    assert [n for n in range(40) if recent.get(f"{n:02}") is not None] == list(range(24, 40))


@given(
    st.integers(0, 60),
    st.lists(st.dictionaries(st.text("abcdef", max_size=2), st.binary(max_size=30), max_size=4)),
)
def test_recent_items_are_the_newest_that_fit(limit, additions):
    recent = RecentItems(limit)
    order: dict[str, bytes] = {}
    for added in additions:
        recent.add(added)
        for id_, item in added.items():
            order.pop(id_, None)
            if len(id_) + len(item) <= limit:
                order[id_] = item
            while sum(len(name) + len(held) for name, held in order.items()) > limit:
                del order[next(iter(order))]
        assert recent._items == order
        assert all(recent.get(id_) == item for id_, item in order.items())
        assert recent._size <= limit
