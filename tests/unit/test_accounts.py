"""Each token and each cent is booked once, for whoever's turn it was; what the CLI does not tell
is estimated.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.accounts import Accounts
from claude_proxy.claude.answer import Report, Spent
from claude_proxy.claude.pool import Pool
from claude_proxy.claude.prices import OTHERS, Prices
from claude_proxy.conversation import Usage
from claude_proxy.money.used import Used
from claude_proxy.settings import Settings
from tests.unit.fake_cli import conversation, installation, run, until

SETTINGS = Settings(spares=0, timeout=5)
MODEL = "claude-fake-1"


async def ask(pool: Pool, text: str, client: str = "phone") -> None:
    async for _ in pool.run(pool.turn(conversation(text), client)):
        pass


def booked(tmp_path, work) -> list[Used]:
    found: list[Used] = []

    async def main():
        async with Pool(installation(tmp_path), SETTINGS, found.append) as pool:
            await work(pool)

    run(main)
    return found


def test_an_answer_is_booked_with_what_the_cli_says_that_it_cost(tmp_path):
    async def work(pool):
        await ask(pool, "hello")
        await ask(pool, "hello", "laptop")

    assert booked(tmp_path, work) == [
        Used(client, MODEL, 1, Usage(input=3, output=2), usd=0.25) for client in ("phone", "laptop")
    ]


def test_an_answer_whose_cost_is_never_told_is_estimated_by_what_others_have_cost(tmp_path):
    async def work(pool):
        await ask(pool, "hello")
        with pytest.raises(Exception, match="before its answer was whole"):
            await ask(pool, "crash-amid")

    *_, lost, estimate = booked(tmp_path, work)
    assert lost == Used("phone", MODEL, 1, Usage(input=3, output=1))
    # 3 + 2 * 5 input tokens have cost 0.25.
    assert estimate.estimated_usd == pytest.approx(0.25 * (3 + 5) / 13)
    assert (estimate.usd, estimate.answers) == (0, 0)


def test_a_failure_before_any_answer_has_used_nothing(tmp_path):
    async def work(pool):
        with pytest.raises(Exception, match="not logged in"):
            await ask(pool, "login")

    assert booked(tmp_path, work) == []


def test_a_turn_that_its_client_has_left_is_booked_all_the_same(tmp_path):
    async def work(pool):
        task = asyncio.create_task(ask(pool, "silent-amid"))
        await until(lambda: any(turn.report.model for turn in pool._turns))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    one, estimate = booked(tmp_path, work)
    assert one == Used("phone", MODEL, 1, Usage(input=3, output=1))
    assert estimate.estimated_usd == pytest.approx(OTHERS * 8 / 1e6)


NAMES = ("phone", "laptop")


class Process:
    """As far as an account looks at a session."""

    def __init__(self) -> None:
        self.report = Report()
        self.spent = Spent()


class Chain:
    """Turns of one process, and what is booked of them."""

    def __init__(self) -> None:
        self.booked: list[Used] = []
        self.accounts = Accounts(self.booked.append)
        self.process = Process()

    def turn(self, usage: Usage, told: float | None, client: str = "phone", said: int = 0) -> None:
        """``told``: what the process has cost so far; None: it says nothing yet."""
        self.accounts.begin(self.process, client, "m")
        cost = None if told is None else told - self.process.spent.cost_usd
        self.process.report = Report(usage, cost, model="m", said=said)
        if told is not None:
            self.process.spent = Spent(told)
        self.accounts.book(self.process)

    @property
    def usd(self) -> float:
        return sum(used.all_usd for used in self.booked)


def test_a_chain_of_tool_calls_is_pending_until_its_process_tells_what_it_cost():
    chain = Chain()
    for number in (1, 2, 3):
        chain.turn(Usage(input=1_000_000), None)
        assert chain.accounts.pending() == pytest.approx(number * OTHERS)
    assert chain.accounts.pending("phone") == chain.accounts.pending()
    assert chain.accounts.pending("laptop") == 0
    chain.turn(Usage(input=1_000_000), 8.0)
    assert (chain.usd, chain.accounts.pending()) == (8.0, 0)
    chain.turn(Usage(input=1_000_000), None)
    assert chain.accounts.pending() == pytest.approx(2.0), "by what it has learnt"
    chain.accounts.close(chain.process)
    assert (chain.usd, chain.accounts.pending()) == (pytest.approx(10.0), 0)


def test_what_was_said_before_it_broke_off_is_estimated_too():
    chain = Chain()
    chain.turn(Usage(input=3, output=1), None, said=400_000)
    chain.accounts.close(chain.process)
    assert chain.usd == pytest.approx(OTHERS * (3 + 5 * 100_000) / 1e6)


def test_who_goes_on_in_another_s_conversation_pays_for_himself_alone():
    chain = Chain()
    chain.turn(Usage(input=1_000_000), None, "phone")
    chain.turn(Usage(input=1_000_000), 8.0, "laptop")
    paid = {name: sum(u.all_usd for u in chain.booked if u.client == name) for name in NAMES}
    assert paid == pytest.approx({"phone": OTHERS, "laptop": 8.0 - OTHERS})


@pytest.mark.parametrize("lower", [0.0, -100.0, 0.3])
def test_a_sum_that_goes_down_books_nothing_a_second_time(lower):
    chain = Chain()
    for told in (0.5, lower, 0.5, 0.75):
        chain.turn(Usage(input=1), told)
    assert chain.usd == 0.75


@pytest.mark.parametrize("tokens", [-5, 2**62, 2**63, 2**200])
def test_tokens_that_cannot_be_are_booked_within_bounds(tokens):
    """Of more than 64 bits the database would refuse that answer, and all others behind it."""
    chain = Chain()
    chain.turn(Usage(input=tokens, output=7), None)
    (used,) = chain.booked
    assert 0 <= used.usage.input <= 2**40
    assert used.usage.output == 7
    assert chain.accounts.pending() > 0


tokens = st.integers(0, 10**7)
usages = st.builds(Usage, tokens, tokens, tokens, tokens, tokens)


@given(usages, usages, st.floats(1e-6, 1e3))
def test_what_was_learnt_holds_in_proportion(learnt, asked, usd):
    prices = Prices()
    prices.learn("m", learnt, usd)
    if learnt.prompt + learnt.output:
        assert prices.estimate("m", learnt) == pytest.approx(usd)
        double = prices.estimate("m", asked + asked)
        assert double == pytest.approx(2 * prices.estimate("m", asked))
    assert prices.estimate("claude-haiku-9", Usage(input=1_000_000)) == 1.0
    assert prices.estimate("brand-new", Usage(output=1_000_000)) == OTHERS * 5
