"""What was answered is found again: in the store, or without one for a while in memory."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from claude_proxy.errors import ProxyError
from claude_proxy.kept import Kept
from claude_proxy.store import Record, Store

LIMIT = 1024**2
CREATED = int(time.time())


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "responses.db", days=30, limit=LIMIT)
    yield store
    store.close()


def record(id_: str = "resp_1", *, history=(), body: bytes = b"{}") -> Record:
    said = {f"msg_{id_}": f"answer of {id_}".encode(), f"rs_{id_}": b"thought"}
    return Record(id_, CREATED, body, list(history), [b"question"], said)


READS = {
    "get": lambda kept: kept.get("resp_1"),
    "delete": lambda kept: kept.delete("resp_1"),
    "context": lambda kept: kept.context("resp_1"),
    "asked": lambda kept: kept.asked("resp_1"),
    "item": lambda kept: kept.item("msg_resp_1"),
}


def test_what_is_stored_is_found_in_all_its_parts(store):
    kept = Kept(store)
    assert kept.stores
    kept.put(record(history=[b"before"], body=b'{"id":"resp_1"}'), stored=True)
    assert kept.get("resp_1") == b'{"id":"resp_1"}'
    assert kept.context("resp_1") == [b"before", b"question", b"answer of resp_1", b"thought"]
    assert kept.asked("resp_1") == [b"question"]
    assert kept.item("msg_resp_1") == b"answer of resp_1"
    assert kept.item("rs_resp_1") == b"thought"


def test_a_new_start_finds_what_was_stored(tmp_path):
    path = tmp_path / "responses.db"
    first = Store.open(path, days=30, limit=LIMIT)
    Kept(first).put(record(), stored=True)
    first.close()
    second = Store.open(path, days=30, limit=LIMIT)
    assert Kept(second).get("resp_1") == b"{}"
    assert Kept(second).item("msg_resp_1") == b"answer of resp_1"
    second.close()


def test_what_is_deleted_is_gone(store):
    kept = Kept(store)
    kept.put(record(), stored=True)
    assert kept.delete("resp_1") is True
    assert kept.delete("resp_1") is False
    assert {name: read(kept) for name, read in READS.items()} == {
        **dict.fromkeys(READS),
        "delete": False,
    }


def test_what_is_not_to_be_stored_can_only_be_referred_to(store):
    kept = Kept(store)
    kept.put(record(), stored=False)
    assert kept.item("msg_resp_1") == b"answer of resp_1"
    assert kept.get("resp_1") is kept.context("resp_1") is kept.asked("resp_1") is None
    assert kept.delete("resp_1") is False
    assert store.item("msg_resp_1") is None
    assert Kept(store).item("msg_resp_1") is None


@pytest.mark.parametrize("stored", [True, False])
def test_without_a_store_items_can_be_referred_to(stored):
    kept = Kept(None)
    assert not kept.stores
    kept.put(record(), stored=stored)
    assert kept.item("rs_resp_1") == b"thought"
    assert kept.get("resp_1") is kept.context("resp_1") is kept.asked("resp_1") is None
    assert kept.delete("resp_1") is False


@pytest.mark.parametrize("make", [Kept, lambda _: Kept(None)])
def test_nothing_is_known_of_what_was_never_said(store, make):
    kept = make(store)
    assert {name: read(kept) for name, read in READS.items()} == {
        **dict.fromkeys(READS),
        "delete": False,
    }


def test_memory_is_bounded():
    kept = Kept(None)
    large = bytes(1024**2)
    for number in range(40):
        said = {f"msg_{number}": large}
        kept.put(Record("r", CREATED, b"{}", [], [], said), stored=False)
    assert kept.item("msg_0") is None
    assert kept.item("msg_39") == large
    assert sum(kept.item(f"msg_{number}") is not None for number in range(40)) < 20


def test_an_answer_that_cannot_be_stored_is_not_lost_at_once(store):
    kept = Kept(store)
    with capture_logs() as logs:
        kept.put(record(body=bytes(2 * LIMIT)), stored=True)
    (entry,) = logs
    assert (entry["event"], entry["response"]) == ("store.response_lost", "resp_1")
    assert entry["log_level"] == "warning"
    assert "answer of" not in str(entry)
    assert kept.item("msg_resp_1") == b"answer of resp_1"
    assert kept.get("resp_1") is None


@pytest.fixture
def broken(store):
    kept = Kept(store)
    kept.put(record(), stored=True)
    store._db.execute("DROP TABLE output")
    store._db.execute("ALTER TABLE response RENAME TO gone")
    return kept


@pytest.mark.parametrize("name", sorted(READS.keys() - {"item"}))
def test_a_store_that_cannot_be_read_is_our_own_fault(broken, name):
    with pytest.raises(ProxyError, match="cannot be read") as caught:
        READS[name](broken)
    assert caught.value.status == 500


def test_an_item_that_cannot_be_read_is_not_there(broken):
    """The request may do without it."""
    with capture_logs() as logs:
        assert READS["item"](broken) is None
    assert [entry["event"] for entry in logs] == ["store.unusable"]


def test_with_a_broken_store_what_is_in_memory_is_found(broken):
    with capture_logs() as logs:
        broken.put(record("resp_2"), stored=True)
    assert [entry["event"] for entry in logs] == ["store.response_lost"]
    assert broken.item("msg_resp_2") == b"answer of resp_2"
