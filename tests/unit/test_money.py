"""Budgets, rates and the headers of both; what was used, as the program tells it."""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from claude_proxy.api_key import ApiKey
from claude_proxy.claude.plan import Plan
from claude_proxy.claude.stream_json import RateLimitInfo
from claude_proxy.clients import Client, Clients
from claude_proxy.conversation import Usage
from claude_proxy.current import Current
from claude_proxy.errors import InsufficientQuota, RateLimited
from claude_proxy.money import usage
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.budget import Budget
from claude_proxy.money.limit_headers import go_duration, of_plan
from claude_proxy.money.rate import Rates
from claude_proxy.money.spending import Spending
from claude_proxy.money.used import Used
from claude_proxy.settings import Settings

TUESDAY = date(2030, 1, 8)
days = st.dates(date(2024, 1, 1), date(2040, 12, 31))


class Scene:
    """A purse, a calendar, and two clients."""

    def __init__(self, phone: Client | None = None, **settings) -> None:
        self.day = TUESDAY
        self.phone = phone or Client("phone", b"p")
        self.spending = Spending(now=lambda: self.day)
        everybody = Clients.of(ApiKey("k", "test"), [self.phone])
        self.default = everybody.all[0]
        self.current = Current(Settings(**settings), everybody)
        self.allowance = Allowance(self.current, self.spending)

    def spend(self, usd: float, client: str = "default", **more) -> None:
        self.spending.add(Used(client, "m", usd=usd, **more))


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        ("day", TUESDAY, date(2030, 1, 9)),
        ("week", date(2030, 1, 7), date(2030, 1, 14)),
        ("month", date(2030, 1, 1), date(2030, 2, 1)),
    ],
)
def test_periods_are_those_of_the_calendar(period, begins, ends):
    budget = Budget(5, period)
    assert budget.begins(TUESDAY) == begins
    end = budget.ends(TUESDAY)
    assert (end.date(), end.hour, end.minute) == (ends, 0, 0)
    assert end.tzinfo is not None


@given(days, st.sampled_from(["day", "week", "month"]))
def test_every_day_is_in_one_period_which_ends_where_the_next_begins(day, period):
    budget = Budget(1, period)
    begins, ends = budget.begins(day), budget.ends(day).date()
    assert begins <= day < ends
    assert budget.begins(ends) == ends
    assert budget.begins(ends - timedelta(days=1)) == begins


def test_at_its_end_a_budget_is_an_error_that_says_when_it_opens_again():
    here = Scene(budget={"day": 5.0, "month": 20.0})
    here.spend(4.99)
    here.allowance.check(here.default)
    here.spend(0.02, "phone")
    with pytest.raises(InsufficientQuota) as caught:
        here.allowance.admit(here.phone)
    error = caught.value
    assert (error.status, error.code, error.type) == (429, *["insufficient_quota"] * 2)
    assert "budget of $5 per day is spent until 2030-01-09 00:00 ($5.01)" in error.message
    assert error.headers()["x-should-retry"] == "false"
    left = datetime(2030, 1, 9).astimezone() - datetime.now().astimezone()
    assert abs(error.retry_after - left.total_seconds()) < 60
    here.day += timedelta(days=1)
    here.allowance.check(here.phone)
    here.spend(15)
    with pytest.raises(InsufficientQuota, match="2030-02-01 00:00"):
        here.allowance.check(Client("else", b""))


def test_a_client_s_own_budget_stops_that_client_alone_and_an_estimate_counts():
    here = Scene(Client("phone", b"p", {"week": 1.0}))
    here.spend(3)
    here.spend(0.5, "phone", estimated_usd=0.5)
    here.allowance.check(here.default)
    with pytest.raises(InsufficientQuota, match=r"of phone of \$1 per week.*2030-01-14"):
        here.allowance.check(here.phone)


def test_before_it_is_spent_answers_log_and_status_warn_the_log_once():
    here = Scene(budget={"day": 10.0})
    here.spend(7.9)
    assert here.allowance.admit(here.default) == {}
    assert here.allowance.warnings() == []
    here.spend(0.1)
    said = "80% of the budget of $10 per day is spent"
    assert here.allowance.admit(here.default) == {"x-claude-proxy-budget": said}
    with capture_logs() as told:
        assert here.allowance.warnings() == here.allowance.warnings() == [said]
        here.spend(2)
        assert here.allowance.warnings() == here.allowance.warnings()
        here.day += timedelta(days=1)
        assert here.allowance.warnings() == []
        here.spend(9)
        here.allowance.warnings()
    assert [one["event"] for one in told] == [
        "budget.nearly_spent",
        "budget.spent",
        "budget.nearly_spent",
    ]
    assert {one["log_level"] for one in told} == {"warning"}


def test_a_warning_of_the_month_is_not_repeated_because_of_one_of_the_day():
    here = Scene(budget={"day": 1.0, "month": 2.0})
    here.spend(1.9)
    with capture_logs() as told:
        for _ in range(3):
            here.allowance.warnings()
            here.day += timedelta(days=1)
            here.spend(0.001)
    assert [one["budget"] for one in told if one["event"] == "budget.nearly_spent"] == [
        "budget of $2 per month"
    ]


def test_above_its_rate_a_client_hears_when_to_try_again():
    here = Scene(Client("phone", b"p", rate=2), rate=60)
    first, second = here.allowance.admit(here.phone), here.allowance.admit(here.phone)
    assert first["x-ratelimit-limit-requests"] == "2"
    assert [one["x-ratelimit-remaining-requests"] for one in (first, second)] == ["1", "0"]
    with pytest.raises(RateLimited) as caught:
        here.allowance.admit(here.phone)
    error = caught.value
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert re.search(r"2 requests per minute. Please try again in (29\.\d|30)s\.", error.message)
    assert error.headers()["retry-after"] == "30"
    assert error.headers()["x-ratelimit-remaining-requests"] == "0"
    assert here.allowance.admit(here.default)["x-ratelimit-limit-requests"] == "60"


@given(
    st.integers(1, 1_000),
    st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_no_minute_has_more_than_twice_the_limit_and_a_told_wait_is_enough(limit, pauses):
    rates, now, taken = Rates(), 0.0, []
    for pause in pauses:
        now += pause
        left = rates.take("a", limit, now)
        assert 0 <= left.remaining <= limit
        assert 0 <= left.reset <= 60 + 1e-6
        if left.is_allowed:
            taken.append(now)
        else:
            assert rates.take("a", limit, now + left.wait + 1e-6).is_allowed
            now += left.wait + 1e-6
            taken.append(now)
    assert all(sum(at <= one < at + 60 for one in taken) <= 2 * limit for at in taken)


def test_one_client_s_rate_is_not_another_s_and_a_changed_one_holds_at_once():
    rates = Rates()
    assert rates.take("a", 1, 0).is_allowed
    assert not rates.take("a", 1, 1).is_allowed
    assert rates.take("b", 1, 1).is_allowed
    assert not rates.take("a", 1, 1).is_allowed
    assert rates.take("a", 600, 2).is_allowed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0ms"), (0.0201, "21ms"), (1, "1s"), (1.41, "1.5s"), (59.94, "60s")),
        *((60, "1m0s"), (359.2, "6m0s"), (3_600, "1h0m0s"), (90_061, "25h1m1s"), (-3, "0ms")),
    ],
)
def test_times_are_written_as_go_does(seconds, text):
    assert go_duration(seconds) == text


EVENT = {
    "five_hour": {"utilization": 0.91, "resetsAt": 5_000, "status": "allowed_warning"},
    "seven_day": {"utilization": 0.33, "resetsAt": 90_000, "status": "allowed"},
}


def test_the_plan_s_windows_are_told_as_the_cli_tells_them():
    plan = Plan()
    assert of_plan(plan, 0) == {}
    plan.update(RateLimitInfo("allowed_warning", 5_000, "five_hour", 0.92, EVENT))
    assert of_plan(plan, 4_000) == {
        "x-ratelimit-reset-tokens": "16m40s",
        "x-claude-proxy-plan": "five_hour;used=0.92;reset=5000;status=allowed_warning, "
        "seven_day;used=0.33;reset=90000;status=allowed",
    }
    assert of_plan(plan, 6_000) == {
        "x-claude-proxy-plan": "seven_day;used=0.33;reset=90000;status=allowed"
    }
    plan.update(None)
    assert len(plan.current(0)) == 2


@pytest.mark.parametrize(
    "info",
    [
        RateLimitInfo("ok", 5e300, "five_hour", None, None),
        RateLimitInfo("ok", float(-1), "x", 0.5, ["no", "table"]),
        RateLimitInfo("a\r\nb: c", 1, "five_hour", 0.5, {"a b": {"status": "x"}}),
        RateLimitInfo("", None, None, None, {str(n): {"status": "ok"} for n in range(100)}),
    ],
)
def test_whatever_a_newer_cli_tells_fits_into_headers_and_no_answer_fails_for_it(info):
    plan = Plan()
    plan.update(info)
    assert len(plan.windows) <= 16
    for name, value in of_plan(plan, time.time()).items():
        assert re.fullmatch(r"[ -~]+", f"{name}{value}")
    usage.report(usage.month(Spending()), [], plan, 0)


def test_a_report_has_both_periods_by_model_and_client_and_what_is_left():
    here = Scene(Client("phone", b"p", {"week": 8.0}), budget={"day": 4.0})
    here.day = date(2030, 1, 3)
    here.spending.add(Used("default", "opus", 1, Usage(10, 30, 0, 5, 2), usd=1.0))
    here.day = TUESDAY
    here.spending.add(Used("phone", "opus", 2, Usage(20, 60, 20, 5, 0), usd=2.0))
    here.spending.add(Used("phone", "haiku", usd=0, estimated_usd=0.25))
    plan = Plan()
    plan.update(RateLimitInfo("allowed", 5_000, "five_hour", 0.5, EVENT))
    report = usage.report(usage.month(here.spending), here.allowance.states(), plan, 0)
    assert (report.today.first, report.month.first) == ("2030-01-08", "2030-01-01")
    assert (report.today.total.usd, report.today.total.estimated_usd) == (2.0, 0.25)
    assert set(report.today.by_model) == {"opus", "haiku"}
    assert set(report.today.by_client) == {"phone"}
    opus = report.month.by_model["opus"]
    assert (opus.usd, opus.answers, opus.input_tokens, opus.cached_tokens) == (3.0, 3, 140, 90)
    assert opus.cached_share == round(90 / 140, 4)
    assert report.today.by_model["haiku"].cached_share is None
    assert [(one.client, one.usd, one.spent_usd, one.is_spent) for one in report.budgets] == [
        (None, 4.0, 2.25, False),
        ("phone", 8.0, 2.25, False),
    ]
    assert [(one.day, one.usd, one.by_model, one.by_client) for one in report.days] == [
        ("2030-01-03", 1.0, {"opus": 1.0}, {"default": 1.0}),
        ("2030-01-08", 2.25, {"haiku": 0.25, "opus": 2.0}, {"phone": 2.25}),
    ]
    assert report.plan[0].resets_at == "1970-01-01T01:23:20+00:00"
