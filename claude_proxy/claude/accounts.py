"""What each process has used, booked for whoever's turn it was, each token and cent once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from claude_proxy.claude.prices import Prices
from claude_proxy.claude.session import Session
from claude_proxy.conversation import Usage
from claude_proxy.money.used import NOTHING, Used

# No answer has more tokens of a kind. Beyond 64 bits the database would refuse all that follows.
MOST_TOKENS = 2**40
# About so many, in English; elsewhere, and in code, fewer.
CHARACTERS_PER_TOKEN = 4


@dataclass(slots=True)
class Account:
    """Of one process. ``told``: US dollars that are booked, and need not be again when the CLI
    tells of them; ``unpriced``: of which it has not told any.
    """

    client: str
    model: str
    runs: bool = True
    told: float = 0.0
    unpriced: Usage = NOTHING


class Accounts:
    def __init__(self, on_used: Callable[[Used], None]) -> None:
        self._on_used = on_used
        self._open: dict[Session, Account] = {}
        self._prices = Prices()

    def begin(self, session: Session, client: str, model: str) -> None:
        """A turn. ``model`` is what it was asked of."""
        account = self._open.setdefault(session, Account(client, model))
        if account.client != client:
            self._part(account)
        account.client, account.model, account.runs = client, model, True

    def book(self, session: Session) -> None:
        """The turn is over. Where it ended in tool calls, its cost comes with the next one."""
        if (account := self._open.get(session)) is None:
            return
        report, answers, usage = session.report, 0, NOTHING
        if account.runs:
            account.model = report.model or account.model
            account.runs, answers, usage = False, int(report.model is not None), sane(report.usage)
            account.unpriced += usage if report.cost_usd else at_least(usage, report.said)
        due = max(0.0, session.spent.cost_usd - account.told)
        if due or report.cost_usd is not None:
            self._prices.learn(account.model, account.unpriced, due)
            # It only counts up: what went down would be booked again on its way back.
            account.told = max(account.told, session.spent.cost_usd)
            account.unpriced = NOTHING
        if answers or due or usage != NOTHING:
            self._on_used(Used(account.client, account.model, answers, usage, due))

    def _part(self, account: Account) -> None:
        """Its process has ended, or another client goes on there and does not pay for it."""
        if account.unpriced != NOTHING:
            estimate = self._prices.estimate(account.model, account.unpriced)
            self._on_used(Used(account.client, account.model, estimated_usd=estimate))
            account.told, account.unpriced = account.told + estimate, NOTHING

    def pending(self, client: str | None = None) -> float:
        """An estimate in US dollars of what is used and not told yet, by one client or by all.

        A chain of tool calls may go on for hours before its process tells any of it.
        """
        return sum(
            self._prices.estimate(account.model, account.unpriced)
            for account in self._open.values()
            if client in (None, account.client)
        )

    def close(self, session: Session) -> None:
        """The process has ended, and tells nothing more."""
        self.book(session)
        account = self._open.pop(session, None)
        if account is not None:
            self._part(account)


def at_least(usage: Usage, said: int) -> Usage:
    """Of an answer that breaks off, the API has not told yet how many tokens it had."""
    return replace(usage, output=max(usage.output, said // CHARACTERS_PER_TOKEN))


def sane(usage: Usage) -> Usage:
    """What the CLI has counted, within what can be: nobody's account may go down, or overflow."""
    return Usage(*(min(max(0, tokens), MOST_TOKENS) for tokens in astuple(usage)))
