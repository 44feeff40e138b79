"""Each token and each cent is booked once, for whoever's turn it was; what the CLI does not tell
is estimated.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.claude.pool import Pool
from claude_proxy.claude.prices import OTHERS, Prices
from claude_proxy.conversation import Usage
from claude_proxy.settings import Settings
from claude_proxy.used import Used
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
