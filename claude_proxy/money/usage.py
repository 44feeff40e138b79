"""``GET /v1/usage``, an extension of this program's own: what was used, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime

import msgspec

from claude_proxy.claude.plan import Plan, Window
from claude_proxy.conversation import Usage
from claude_proxy.money.budget import State
from claude_proxy.money.spending import Spending
from claude_proxy.money.used import Used


class Figures(msgspec.Struct):
    """``usd`` is what the CLI has told; ``estimated_usd`` comes on top, for answers whose cost it
    could not tell. ``cached_share``: of the prompt's tokens, those that were read from the cache.
    """

    usd: float
    estimated_usd: float
    answers: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cached_share: float | None


class Period(msgspec.Struct):
    """``first``: its first day."""

    first: str
    total: Figures
    by_model: dict[str, Figures]
    by_client: dict[str, Figures]


class Day(msgspec.Struct):
    """US dollars, estimated ones included."""

    day: str
    usd: float
    by_model: dict[str, float]
    by_client: dict[str, float]


class BudgetReport(msgspec.Struct):
    """``client`` null: of all together."""

    client: str | None
    period: str
    usd: float
    spent_usd: float
    is_spent: bool
    next_begins: str


class WindowReport(msgspec.Struct):
    """``used`` goes from 0 to 1."""

    window: str
    status: str
    used: float | None
    resets_at: str | None


class Report(msgspec.Struct):
    """``days``: those of the month on which anything was used."""

    today: Period
    month: Period
    days: list[Day]
    budgets: list[BudgetReport]
    plan: list[WindowReport]
    object: str = "usage"


def month(spending: Spending) -> tuple[Period, Period, list[Day]]:
    """Today, this month, and its days."""
    today = spending.day()
    first = today.replace(day=1)
    by_day = spending.by_day(first, today)
    return (
        period(today, by_day.get(today.isoformat(), [])),
        period(first, [used for day in by_day.values() for used in day]),
        [day_report(day, used) for day, used in sorted(by_day.items())],
    )


def report(
    spent: tuple[Period, Period, list[Day]], states: Iterable[State], plan: Plan, now: float
) -> Report:
    """``spent``: as ``month`` has it. ``now``: Unix time in seconds, for the plan."""
    return Report(
        *spent,
        [budget_report(state) for state in states],
        [window_report(window) for window in plan.current(now)],
    )


def period(first: date, used: Sequence[Used]) -> Period:
    return Period(
        first.isoformat(),
        figures(total(used)),
        {name: figures(total(some)) for name, some in grouped(used, model_of).items()},
        {name: figures(total(some)) for name, some in grouped(used, client_of).items()},
    )


def day_report(day: str, used: Sequence[Used]) -> Day:
    return Day(
        day,
        dollars(used),
        {name: dollars(some) for name, some in grouped(used, model_of).items()},
        {name: dollars(some) for name, some in grouped(used, client_of).items()},
    )


def dollars(used: Sequence[Used]) -> float:
    return round(sum(each.all_usd for each in used), 6)


def model_of(used: Used) -> str:
    return used.model or "unknown"


def client_of(used: Used) -> str:
    return used.client or "unknown"


def grouped(used: Iterable[Used], key: Callable[[Used], str]) -> dict[str, list[Used]]:
    groups: dict[str, list[Used]] = {}
    for one in used:
        groups.setdefault(key(one), []).append(one)
    return dict(sorted(groups.items()))


def total(used: Sequence[Used]) -> Used:
    """Figure by figure: adding one to the other makes an object of each sum, which takes far longer
    for a month of many clients.
    """
    read = [each.usage for each in used]
    usage = Usage(
        sum(each.input for each in read),
        sum(each.cache_read for each in read),
        sum(each.cache_write for each in read),
        sum(each.output for each in read),
        sum(each.reasoning for each in read),
    )
    return Used(
        "",
        "",
        sum(each.answers for each in used),
        usage,
        sum(each.usd for each in used),
        sum(each.estimated_usd for each in used),
    )


def figures(used: Used) -> Figures:
    usage: Usage = used.usage
    return Figures(
        usd=round(used.usd, 6),
        estimated_usd=round(used.estimated_usd, 6),
        answers=used.answers,
        input_tokens=usage.prompt,
        cached_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        output_tokens=usage.output,
        reasoning_tokens=usage.reasoning,
        cached_share=round(usage.cache_read / usage.prompt, 4) if usage.prompt else None,
    )


def budget_report(state: State) -> BudgetReport:
    return BudgetReport(
        client=state.budget.client,
        period=state.budget.period,
        usd=state.budget.usd,
        spent_usd=round(state.spent, 6),
        is_spent=state.is_over,
        next_begins=state.opens.isoformat(),
    )


def window_report(window: Window) -> WindowReport:
    resets = window.resets_at
    return WindowReport(
        window.name,
        window.status,
        window.used,
        None if resets is None else datetime.fromtimestamp(resets, UTC).isoformat(),
    )
