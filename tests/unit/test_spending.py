"""What was spent on which day: over restarts, over midnight, by two daemons, without a file."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.conversation import Usage
from claude_proxy.database import Database, StoreUnusable
from claude_proxy.money.spending import (
    NAME,
    SCHEMA,
    VERSION,
    Spending,
    opened,
    spent_today,
    upgrade,
    version,
)
from claude_proxy.money.used import Used

MONDAY = date(2030, 1, 7)
amounts = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.floats(0, 10)), min_size=1, max_size=25
)


class Calendar:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.day = MONDAY

    def __call__(self) -> date:
        return self.day


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / NAME


def counting(path: Path, calendar: Calendar) -> Spending:
    return Spending(Database(path, SCHEMA, VERSION), calendar)


def cost(usd: float, client: str = "default", model: str = "claude-sonnet-5") -> Used:
    return Used(client, model, usd=usd)


def kept(path: Path) -> dict[str, float]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT day, sum(usd) FROM used GROUP BY day"))


def test_it_is_kept_over_restarts(path):
    for _ in range(3):
        with closing(opened(path)) as spent:
            spent.add(cost(0.25))
    with closing(opened(path)) as spent:
        assert spent.today == pytest.approx(0.75)
    assert spent_today(path) == pytest.approx(0.75)


def test_the_file_is_private(path):
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_day_has_its_own_sum(path):
    calendar = Calendar()
    with closing(counting(path, calendar)) as spent:
        spent.add(cost(1))
        calendar.day += timedelta(days=1)
        assert spent.today == 0
        spent.add(cost(2))
        spent.add(cost(3))
        assert spent.today == 5
    assert kept(path) == {"2030-01-07": 1, "2030-01-08": 5}


def test_what_was_spent_earlier_this_day_is_known_at_the_start(path):
    calendar = Calendar()
    with closing(counting(path, calendar)) as spent:
        spent.add(cost(1.5))
    with closing(counting(path, calendar)) as spent:
        assert spent.today == 1.5


def test_two_daemons_of_one_user_count_together(path):
    calendar = Calendar()
    with closing(counting(path, calendar)) as one, closing(counting(path, calendar)) as other:
        one.add(cost(1))
        other.add(cost(2))
        assert other.today == 3
        one.add(cost(4))
        assert one.today == 7
    assert kept(path) == {"2030-01-07": 7}


@settings(deadline=None)  # real files
@given(amounts)
def test_the_file_has_what_all_have_added_on_each_day(tmp_path_factory, moves):
    path = tmp_path_factory.mktemp("spent") / NAME
    calendar = Calendar()
    expected: dict[str, float] = {}
    with closing(counting(path, calendar)) as one, closing(counting(path, calendar)) as other:
        for who, days, usd in moves:
            calendar.day += timedelta(days=days)
            spending = (one, other)[who]
            spending.add(cost(usd))
            day = calendar.day.isoformat()
            expected[day] = expected.get(day, 0.0) + usd
            assert spending.today == pytest.approx(expected[day])
    assert kept(path) == pytest.approx(expected)


def test_without_a_file_it_counts_in_memory():
    calendar = Calendar()
    spent = Spending(now=calendar)
    spent.add(cost(1))
    spent.add(cost(0.5))
    assert spent.today == 1.5
    calendar.day += timedelta(days=1)
    assert spent.today == 0
    spent.close()


@pytest.mark.parametrize("unusable", ["a directory", "newer"])
def test_a_file_that_cannot_be_used_is_left_alone_and_it_counts_in_memory(path, unusable):
    path.parent.mkdir()
    if unusable == "a directory":
        path.mkdir()
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreUnusable):
        Spending.open(path)
    with closing(opened(path)) as spent:
        spent.add(cost(2))
        assert spent.today == 2
    assert spent_today(path) is None


def test_a_file_that_fails_later_costs_no_answer_and_no_cent(path):
    calendar = Calendar()
    with closing(counting(path, calendar)) as spent:
        spent.add(cost(1))
        assert spent.today == 1
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TABLE used")
        spent.add(cost(2))
        spent.add(cost(4))
        assert spent.today == 7


def test_a_file_that_is_deleted_in_use_is_begun_anew(path):
    with closing(counting(path, Calendar())) as spent:
        spent.add(cost(1))
        for file in path.parent.iterdir():
            file.unlink()
        spent.add(cost(2))
        assert spent.today == 2
    assert kept(path) == {MONDAY.isoformat(): 2}


def test_a_locked_file_is_not_waited_for_long_and_the_sum_goes_on(path):
    calendar = Calendar()
    with (
        closing(counting(path, calendar)) as spent,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        spent.add(cost(1))
        other.execute("BEGIN IMMEDIATE")
        spent.add(cost(2))
        assert spent.today == 3


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100, b"SQLite format 3\0"])
def test_a_look_at_what_is_no_such_file_tells_nothing_and_makes_nothing(path, content):
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    before = sorted(path.parent.iterdir())
    assert spent_today(path) is None
    assert sorted(path.parent.iterdir()) == before
    assert content is None or path.read_bytes() == content


@pytest.mark.parametrize("name", ["a ?mode=rwc#b%20", "grüße"])
def test_a_look_takes_any_path_absolute_or_not(tmp_path, monkeypatch, name):
    with closing(opened(tmp_path / name / NAME)) as spent:
        assert spent_today(tmp_path / name / NAME) == 0
        spent.add(cost(3))
    monkeypatch.chdir(tmp_path)
    assert spent_today(tmp_path / name / NAME) == 3
    assert spent_today(Path(name, NAME)) == 3


def test_a_day_without_an_answer_cost_nothing(path):
    with closing(counting(path, Calendar())) as spent:
        assert spent.today == 0
        assert spent.by_day(MONDAY, MONDAY) == {}


def test_tokens_and_costs_are_kept_by_client_and_model_and_day(path):
    calendar = Calendar()
    one = Used("default", "m1", 1, Usage(1, 2, 3, 4, 5), usd=0.5)
    late = Used("default", "m1", usd=0.25, estimated_usd=0.125)
    other = Used("phone", "m2", 1, Usage(10, 20, 30, 40, 50), usd=2)
    with closing(counting(path, calendar)) as spent:
        for used in (one, late, other):
            spent.add(used)
        calendar.day += timedelta(days=1)
        spent.add(one)
        assert spent.totals == {("default", "m1"): one + late + one, ("phone", "m2"): other}
    with closing(counting(path, calendar)) as again:
        assert again.by_day(MONDAY, MONDAY) == {MONDAY.isoformat(): [one + late, other]}
        tuesday = calendar.day
        assert again.by_day(MONDAY, tuesday) == {
            MONDAY.isoformat(): [one + late, other],
            tuesday.isoformat(): [one],
        }
        assert again.since(MONDAY) == 3.375
        assert again.since(MONDAY, "phone") == 2
        assert again.since(calendar.day, "phone") == 0
        assert again.since(calendar.day) == again.today == 0.5
        assert again.totals == {}


def test_while_the_file_fails_what_is_used_is_remembered_and_kept_when_it_works_again(path):
    calendar = Calendar()
    with (
        closing(counting(path, calendar)) as spent,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        spent.add(cost(1, "phone"))
        other.execute("BEGIN IMMEDIATE")
        spent.add(cost(2, "phone"))
        assert spent.since(MONDAY, "phone") == 3
        assert kept(path) == {"2030-01-07": 1}
        other.execute("ROLLBACK")
        assert spent.by_day(MONDAY, MONDAY) == {MONDAY.isoformat(): [cost(3, "phone")]}
    assert kept(path) == {"2030-01-07": 3}


def test_the_sums_of_the_first_version_are_taken_over(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "CREATE TABLE spent (day TEXT PRIMARY KEY, usd REAL NOT NULL) WITHOUT ROWID;"
            "INSERT INTO spent VALUES ('2030-01-06', 4), ('2030-01-07', 1.5);"
            "PRAGMA user_version = 1;"
        )
    with closing(Spending.open(path)) as spent:
        assert spent.since(date(2030, 1, 1)) == 5.5
        spent.add(cost(1))
    with closing(Spending.open(path)) as spent:
        assert spent.since(date(2030, 1, 6)) == 5.5
        assert spent.by_day(MONDAY, MONDAY) == {MONDAY.isoformat(): [Used("", "", usd=1.5)]}


def test_a_daemon_that_another_was_faster_than_leaves_its_upgrade_alone(path):
    """Both have found it old; the second one must neither fail nor take the sums over twice."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            "CREATE TABLE spent (day TEXT PRIMARY KEY, usd REAL NOT NULL);"
            "INSERT INTO spent VALUES ('2030-01-07', 1.5); PRAGMA user_version = 1;"
        )
        for _ in range(2):
            upgrade(db)
            assert not db.in_transaction
        assert version(db) == 2
    with closing(Spending.open(path)) as spent:
        assert spent.by_day(MONDAY, MONDAY) == {MONDAY.isoformat(): [Used("", "", usd=1.5)]}
