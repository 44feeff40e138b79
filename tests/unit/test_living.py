"""The conversations that live on: who gets them back, who makes room, who has waited enough."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude import living
from claude_proxy.claude.living import Living


@dataclass(eq=False)
class Process:
    """Stands in a conversation, for which a text is enough here."""

    stands_at: str = ""
    alive: bool = True

    def continues(self, prompt: str) -> bool:
        return prompt == self.stands_at


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(living, "time", clock)
    return clock


def test_the_one_that_stands_where_the_prompt_goes_on_is_taken_once():
    kept = Living(8, 60)
    one, other = Process("one"), Process("other")
    assert kept.add(one) == kept.add(other) == []
    assert kept.take("one") is one
    assert kept.take("one") is None
    assert len(kept) == 1
    assert kept.take("other") is other


def test_nobody_stands_in_an_unknown_conversation():
    kept = Living(8, 60)
    kept.add(Process("one"))
    assert kept.take("new") is None
    assert len(kept) == 1


def test_of_two_that_stand_at_the_same_place_the_later_one_is_taken():
    kept = Living(8, 60)
    early, late = Process("same"), Process("same")
    kept.add(early)
    kept.add(late)
    assert kept.take("same") is late
    assert kept.take("same") is early


def test_above_the_limit_the_one_that_was_used_longest_ago_makes_room():
    kept = Living(2, 60)
    first, second, third = Process("1"), Process("2"), Process("3")
    kept.add(first)
    kept.add(second)
    kept.add(kept.take("1"))
    assert kept.add(third) == [second]
    assert kept.take("2") is None
    assert kept.take("1") is first


@given(st.integers(0, 4), st.lists(st.integers(0, 9), max_size=20))
def test_there_are_never_more_than_the_limit_and_nobody_is_lost(limit, used):
    kept = Living(limit, 60)
    living_on: set[Process] = set()
    for name in used:
        session = kept.take(str(name)) or Process(str(name))
        ended = kept.add(session)
        living_on = (living_on | {session}) - set(ended)
        assert len(kept) == len(living_on) <= limit
    assert set(kept.clear()) == living_on
    assert len(kept) == 0


@pytest.mark.parametrize(("limit", "keep_alive"), [(0, 60), (8, 0), (0, 0)])
def test_without_room_or_without_time_nobody_lives_on(limit, keep_alive):
    kept = Living(limit, keep_alive)
    session = Process("one")
    assert kept.add(session) == [session]
    assert len(kept) == 0
    assert kept.take("one") is None


def test_nobody_is_outdated_before_its_time(clock):
    kept = Living(8, 60)
    kept.add(Process("one"))
    clock.now += 59.9
    assert kept.outdated() == []
    assert len(kept) == 1


def test_the_time_begins_anew_with_every_turn(clock):
    kept = Living(8, 60)
    busy, idle = Process("busy"), Process("idle")
    kept.add(busy)
    kept.add(idle)
    clock.now += 40
    kept.add(kept.take("busy"))
    clock.now += 20
    assert kept.outdated() == [idle]
    assert kept.outdated() == []
    assert kept.take("busy") is busy


def test_one_whose_process_has_ended_is_outdated_at_once(clock):
    kept = Living(8, 60)
    dead, well = Process("dead", alive=False), Process("well")
    kept.add(dead)
    kept.add(well)
    assert kept.outdated() == [dead]
    assert kept.clear() == [well]


def test_clearing_leaves_nobody():
    kept = Living(8, 60)
    sessions = [Process("1"), Process("2")]
    for session in sessions:
        kept.add(session)
    assert kept.clear() == sessions
    assert len(kept) == 0
    assert kept.take("1") is None
