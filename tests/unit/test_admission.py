"""Slots: never more than the limit, first come first served, none ever lost.

``asyncio.sleep(0)`` here only lets the other tasks run; nothing waits for time to pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.claude.admission import Admission
from claude_proxy.errors import RETRY_SOON, Overloaded, ProxyError, RateLimited, ShuttingDown

LONG = 60.0


class Guest:
    """Comes for a slot, and keeps it until told to leave."""

    def __init__(self, hall: Hall, client: str = "") -> None:
        self._hall = hall
        self.client = client
        self.leave = asyncio.Event()
        self.inside = False
        self.error: ProxyError | None = None
        self.task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        try:
            async with self._hall.admission.slot(self.client):
                self._hall.enter(self)
                self.inside = True
                try:
                    await self.leave.wait()
                finally:
                    self.inside = False
        except ProxyError as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return not self.inside and not self.task.done()


class Hall:
    """All guests of one Admission; checks what must always hold."""

    def __init__(self, limit: int, queue: int, wait: float = LONG) -> None:
        self.admission = Admission(limit, queue, wait)
        self.limit = self._ceiling = limit
        self.queue = queue
        self.wait = wait
        self.guests: list[Guest] = []
        self.entered: list[Guest] = []

    def enter(self, guest: Guest) -> None:
        self.entered.append(guest)

    def configure(self, limit: int, queue: int) -> None:
        """Slots that are handed out already stay so, wherever their guests are on their way."""
        self._ceiling = max(self._ceiling, limit)
        self.limit, self.queue = limit, queue
        self.admission.configure(limit, queue, self.wait)

    async def come(self, client: str = "") -> Guest:
        guest = Guest(self, client)
        self.guests.append(guest)
        await asyncio.sleep(0)
        return guest

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        self.check()
        inside = sum(guest.inside for guest in self.guests)
        waiting = [guest for guest in self.guests if guest.waits]
        assert (self.admission.running, self.admission.waiting) == (inside, len(waiting))
        assert inside >= self.limit or not waiting, "a slot is free and somebody waits"
        self._ceiling = max(self.limit, inside)
        for client in {guest.client for guest in waiting}:
            entered = [self.guests.index(one) for one in self.entered if one.client == client]
            assert all(
                self.guests.index(guest) > max(entered, default=-1)
                for guest in waiting
                if guest.client == client
            ), "queue jumped"

    def check(self) -> None:
        assert sum(guest.inside for guest in self.guests) <= self._ceiling

    async def close(self) -> None:
        """Afterwards every slot must be free at once."""
        while tasks := [guest.task for guest in self.guests if not guest.task.done()]:
            for guest in self.guests:
                guest.leave.set()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await self.settle()
        again = [await self.come() for _ in range(self.limit)]
        assert all(guest.inside for guest in again)
        for guest in again:
            guest.leave.set()
        await asyncio.gather(*[guest.task for guest in again])


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await work()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_as_many_as_the_limit_go_in_at_once_and_the_rest_in_their_order():
    async def work():
        hall = Hall(limit=2, queue=3)
        guests = [await hall.come() for _ in range(5)]
        assert [guest.inside for guest in guests] == [True, True, False, False, False]
        for leaving in (1, 0, 2):
            guests[leaving].leave.set()
            await hall.settle()
        assert hall.entered == guests
        await hall.close()

    run(work)


@pytest.mark.parametrize("queue", [0, 1, 3])
def test_a_full_queue_sends_away_with_429(queue):
    async def work():
        hall = Hall(limit=1, queue=queue)
        *_, last = [await hall.come() for _ in range(queue + 2)]
        await last.task
        assert isinstance(last.error, RateLimited)
        assert (last.error.status, last.error.retry_after) == (429, RETRY_SOON)
        assert hall.admission.waiting == queue
        await hall.close()

    run(work)


def test_a_long_wait_ends_with_503():
    async def work():
        hall = Hall(limit=1, queue=1, wait=0.01)
        first, second = await hall.come(), await hall.come()
        await second.task
        assert isinstance(second.error, Overloaded)
        assert (second.error.status, second.error.retry_after) == (503, RETRY_SOON)
        assert "0.01 seconds" in second.error.message
        assert first.inside
        await hall.settle()
        await hall.close()

    run(work)


def test_all_who_wait_can_be_sent_away_and_those_inside_stay():
    async def work():
        hall = Hall(limit=1, queue=2)
        inside, *waiting = [await hall.come() for _ in range(3)]
        told = ShuttingDown("closing")
        hall.admission.fail_waiting(told)
        await hall.settle()
        assert inside.inside
        assert [guest.error for guest in waiting] == [told, told]
        await hall.close()

    run(work)


def test_a_slot_is_free_again_when_its_holder_fails():
    async def work():
        admission = Admission(1, 0, LONG)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with admission.slot():
                    raise ZeroDivisionError
        assert admission.running == 0

    run(work)


def test_who_is_cancelled_in_the_moment_of_admission_hands_the_slot_on():
    async def work():
        hall = Hall(limit=1, queue=2)
        first, second, third = [await hall.come() for _ in range(3)]
        first.leave.set()
        await asyncio.sleep(0)  # the first has left, the second does not know yet
        assert not first.inside
        assert not second.inside
        second.task.cancel()
        await hall.settle()
        assert third.inside
        await hall.close()

    run(work)


def test_a_higher_limit_lets_those_in_who_wait_and_a_longer_queue_lets_wait():
    async def work():
        hall = Hall(limit=1, queue=2)
        guests = [await hall.come() for _ in range(3)]
        hall.configure(limit=2, queue=1)
        await hall.settle()
        assert [guest.inside for guest in guests] == [True, True, False]
        refused = await hall.come()
        assert isinstance(refused.error, RateLimited)
        hall.configure(limit=2, queue=2)
        fourth = await hall.come()
        assert fourth.waits
        hall.configure(limit=9, queue=0)
        await hall.settle()
        assert [guest.inside for guest in [*guests, fourth]] == [True] * 4
        await hall.close()

    run(work)


def test_a_lower_limit_sends_nobody_away_and_lets_nobody_in_until_it_holds():
    async def work():
        hall = Hall(limit=3, queue=2)
        *inside, first, second = [await hall.come() for _ in range(5)]
        hall.configure(limit=1, queue=0)
        for leaving in inside[:2]:
            await hall.settle()
            assert first.waits
            assert second.waits
            leaving.leave.set()
        await hall.settle()
        assert first.waits
        assert (await hall.come()).error is not None
        inside[2].leave.set()
        await hall.settle()
        assert (first.inside, second.waits) == (True, True)
        await hall.close()

    run(work)


def test_a_shorter_wait_holds_for_those_who_come_later():
    async def work():
        hall = Hall(limit=1, queue=2)
        _, early = await hall.come(), await hall.come()
        hall.wait = 0.01
        hall.configure(limit=1, queue=2)
        late = await hall.come()
        await late.task
        assert isinstance(late.error, Overloaded)
        assert early.waits
        await hall.settle()
        await hall.close()

    run(work)


def test_slots_go_round_among_the_clients_however_many_each_sends():
    async def work():
        hall = Hall(limit=2, queue=20)
        names = ["a"] * 8 + ["b"] * 2 + ["c"]
        guests = [await hall.come(name) for name in names]
        for number in range(len(guests)):
            await hall.settle()
            hall.entered[number].leave.set()
        await hall.settle()
        order = [guest.client for guest in hall.entered]
        assert order[:2] == ["a", "a"]
        assert sorted(order[2:5]) == ["a", "b", "c"]
        assert "b" in order[5:7]
        assert order.count("a") == 8
        await hall.close()

    run(work)


def test_a_client_that_fills_the_queue_makes_room_for_another_and_only_as_much_as_is_fair():
    async def work():
        hall = Hall(limit=1, queue=4)
        greedy = [await hall.come("a") for _ in range(5)]
        modest = [await hall.come("b") for _ in range(3)]
        await hall.settle()
        assert [isinstance(one.error, RateLimited) for one in greedy] == [False] * 3 + [True] * 2
        assert [isinstance(one.error, RateLimited) for one in modest] == [False, False, True]
        assert hall.admission.waiting == 4
        await hall.close()

    run(work)


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["come", "come", "leave", "cancel", "close", "configure", "yield", "settle"]
        ),
        st.integers(0, 30),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(st.integers(1, 3), st.integers(0, 4), st.sampled_from([LONG, 1e-9]), steps)
def test_whatever_happens_in_whatever_order_no_slot_is_lost(limit, queue, wait, moves):
    """Guests come, leave, are cancelled or sent away at any point between two awaits."""

    async def work():
        hall = Hall(limit, queue, wait)
        for move, number in moves:
            guest = hall.guests[number % len(hall.guests)] if hall.guests else None
            match move:
                case "come":
                    await hall.come("abc"[number % 3])
                case "leave" if guest:
                    guest.leave.set()
                case "cancel" if guest:
                    guest.task.cancel()
                case "close":
                    hall.admission.fail_waiting(ShuttingDown("closing"))
                case "configure":
                    hall.configure(limit=1 + number % 3, queue=number // 6)
                case "yield":
                    await asyncio.sleep(0)
                case "settle":
                    await hall.settle()
            hall.check()
        await hall.close()

    run(work)
