"""structlog for all, uvicorn included: console on a terminal, JSON lines otherwise, to stderr.

Events have dotted names (``request.done``). No key, prompt or answer is ever passed to a logger.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from claude_proxy.settings import Settings


def wants_console(log_format: str, stream: TextIO) -> bool:
    return log_format == "console" or (log_format == "auto" and stream.isatty())


def drop_color_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """uvicorn sends each line a second time, coloured."""
    event.pop("color_message", None)
    return event


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Sends every logger of this process through one formatter, one line a record."""
    stream = stream or sys.stderr
    console = wants_console(settings.log_format, stream)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        drop_color_message,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = getattr(logging, settings.log_level.upper())
    root.setLevel(level)
    # uvicorn's own start and stop lines repeat ours; its warnings and errors count.
    logging.getLogger("uvicorn").setLevel(max(level, logging.WARNING))
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
