"""``GET /metrics`` for Prometheus. All names begin with ``claude_proxy_``, but the process's own.

What the pool and the ledger count anyway is read from there when it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from claude_proxy import __version__
from claude_proxy.claude.pool import Pool
from claude_proxy.claude.tally import How
from claude_proxy.measures import Distribution, Measures
from claude_proxy.money.allowance import Allowance
from claude_proxy.money.used import Used

PREFIX = "claude_proxy"


class Metrics:
    """All that there is to show."""

    def __init__(self, measures: Measures, pool: Pool, allowance: Allowance) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Reader(measures, pool, allowance))
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Body and media type, in the form that ``accept`` asks for."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, media_type = choose_encoder("")
        return encode(self._registry), media_type


class Reader:
    """A collector of prometheus_client's."""

    def __init__(self, measures: Measures, pool: Pool, allowance: Allowance) -> None:
        self._measures = measures
        self._pool = pool
        self._allowance = allowance

    def collect(self) -> Iterator[Metric]:
        version = {"version": __version__, "claude_version": self._pool.installation.cli.version}
        yield InfoMetricFamily(PREFIX, "What runs.", value=version)
        yield from measured(self._measures)
        yield from self._now()
        yield from self._so_far()
        yield from used_so_far(self._allowance.spending.totals.values())
        yield from self._limits()

    def _now(self) -> Iterator[Metric]:
        stats = self._pool.stats
        sessions = GaugeMetricFamily(
            f"{PREFIX}_sessions", "Processes of the CLI, by what they do.", labels=["state"]
        )
        sessions.add_metric(["running"], stats.running)
        sessions.add_metric(["living"], stats.living)
        sessions.add_metric(["spare"], stats.spares)
        yield sessions
        yield GaugeMetricFamily(
            f"{PREFIX}_queue_depth", "Requests that wait for a free turn.", value=stats.queued
        )

    def _so_far(self) -> Iterator[Metric]:
        tally = self._pool.tally
        turns = CounterMetricFamily(
            f"{PREFIX}_turns",
            "Turns: in the conversation's living process, replayed into another one, or the first "
            "of a conversation.",
            labels=["how"],
        )
        for how in How:
            turns.add_metric([how.value], tally.turns[how])
        yield turns
        for name, text, value in (
            ("cli_starts", "Processes of the CLI.", self._pool.installation.starts),
            ("cli_crashes", "Those that have ended by themselves.", tally.crashed),
            ("upstream_retries", "Tries of the CLI's after a first one.", tally.retries),
            ("unknown_lines", "Lines of the CLI's that meant nothing.", tally.unknown_lines),
        ):
            yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)

    def _limits(self) -> Iterator[Metric]:
        allowed = GaugeMetricFamily(f"{PREFIX}_budget_usd", "Budgets.", labels=["client", "period"])
        spent = GaugeMetricFamily(
            f"{PREFIX}_budget_spent_usd", "What is spent of them.", labels=["client", "period"]
        )
        for state in self._allowance.states():
            labels = [state.budget.client or "", state.budget.period]
            allowed.add_metric(labels, state.budget.usd)
            spent.add_metric(labels, state.spent)
        used = GaugeMetricFamily(
            f"{PREFIX}_plan_used_ratio", "The plan's windows, 0 to 1.", labels=["window"]
        )
        resets = GaugeMetricFamily(
            f"{PREFIX}_plan_reset_timestamp_seconds", "When they begin anew.", labels=["window"]
        )
        for window in self._pool.plan.current(time.time()):
            if window.used is not None:
                used.add_metric([window.name], window.used)
            if window.resets_at is not None:
                resets.add_metric([window.name], window.resets_at)
        yield from (allowed, spent, used, resets)


def used_so_far(totals: Iterable[Used]) -> Iterator[Metric]:
    labels = ["client", "model"]
    answers = CounterMetricFamily(f"{PREFIX}_answers", "Answers that were begun.", labels=labels)
    usd = CounterMetricFamily(f"{PREFIX}_cost_usd", "As the CLI tells it.", labels=labels)
    estimated = CounterMetricFamily(
        f"{PREFIX}_estimated_cost_usd", "Of what the CLI does not tell.", labels=labels
    )
    tokens = CounterMetricFamily(f"{PREFIX}_tokens", "Tokens.", labels=[*labels, "kind"])
    for used in totals:
        names = [used.client, used.model]
        answers.add_metric(names, used.answers)
        usd.add_metric(names, used.usd)
        estimated.add_metric(names, used.estimated_usd)
        for kind in ("input", "cache_read", "cache_write", "output", "reasoning"):
            tokens.add_metric([*names, kind], getattr(used.usage, kind))
    yield from (answers, usd, estimated, tokens)


def measured(measures: Measures) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        f"{PREFIX}_requests",
        "Requests that are over; status 0 where nobody was left to answer.",
        labels=["route", "method", "status", "client"],
    )
    for labels, count in measures.requests.items():
        requests.add_metric(list(labels), count)
    yield requests
    yield histogram(
        "request_duration_seconds",
        "From the head of the request to the end of its answer.",
        "route",
        measures.durations,
    )
    yield histogram(
        "time_to_first_token_seconds",
        "From the head of the request to the model's first event, by where its process came from.",
        "process",
        measures.first_tokens,
    )
    yield histogram("queue_wait_seconds", "For a free turn.", None, {"": measures.waits})
    yield histogram(
        "event_loop_lag_seconds",
        "By how much a timer of the event loop was late, looked at about once a second.",
        None,
        {"": measures.lags},
    )


def histogram(
    name: str, text: str, label: str | None, found: Mapping[str, Distribution]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=[label] if label else None)
    for value, distribution in found.items():
        labels = [value] if label else []
        family.add_metric(labels, distribution.cumulative(), distribution.sum)
    return family
