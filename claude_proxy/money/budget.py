"""Budgets: so many US dollars per day, week or month of the user's own calendar. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

# From that part on it is said that the end is near.
WARN_FROM = 0.8


@dataclass(frozen=True, slots=True)
class Budget:
    """``client``: whose it is; None: of all together. ``period``: day, week or month."""

    usd: float
    period: str
    client: str | None = None

    def begins(self, day: date) -> date:
        """The first day of the period that ``day`` is in."""
        if self.period == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.period == "month" else day

    def ends(self, day: date) -> datetime:
        """When the next one begins, in local time."""
        begun = self.begins(day)
        if self.period == "month":
            following = (begun + timedelta(days=31)).replace(day=1)
        else:
            following = begun + timedelta(days=7 if self.period == "week" else 1)
        return datetime.combine(following, time()).astimezone()

    def __str__(self) -> str:
        whose = f" of {self.client}" if self.client else ""
        return f"budget{whose} of ${self.usd:g} per {self.period}"


@dataclass(frozen=True, slots=True)
class State:
    """A budget and what of it is spent, in US dollars."""

    budget: Budget
    spent: float
    opens: datetime

    @property
    def part(self) -> float:
        return self.spent / self.budget.usd

    @property
    def is_over(self) -> bool:
        return self.spent >= self.budget.usd

    @property
    def is_near(self) -> bool:
        return self.part >= WARN_FROM

    def __str__(self) -> str:
        if self.is_over:
            return f"the {self.budget} is spent until {self.opens:%Y-%m-%d %H:%M}"
        return f"{self.part:.0%} of the {self.budget} is spent"


def budgets(usd: Mapping[str, float], client: str | None = None) -> list[Budget]:
    return [Budget(amount, period, client) for period, amount in usd.items()]
