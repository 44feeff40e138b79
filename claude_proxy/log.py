"""structlog for all, uvicorn included: console on a terminal, the journal under systemd, else JSON.

Events have dotted names (``request.done``). No key, prompt or answer is ever passed to a logger.

A record for the journal has these fields:

=================  =================================================================
MESSAGE            the JSON line as it would stand on stderr: ``journalctl -o cat | jq``
PRIORITY           2 critical, 3 error, 4 warning, 6 info, 7 debug
SYSLOG_IDENTIFIER  claude-proxy
LOGGER             who wrote it, unless this program: ``uvicorn.error``
EVENT, STATUS ...  each key of the line but ``timestamp`` and ``level``, in upper case; what is
                   no text as JSON (``true``, ``12.5``, ``["a"]``), what is null not at all
=================  =================================================================

A key that would take a name with a meaning of its own (``journal.RESERVED``) or one of the above
is prefixed: ``pid`` is CLAUDE_PROXY_PID. What journald does not take at once goes to stderr.
Nothing here waits for a reader, and nothing raises into the program.
"""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from claude_proxy import journal
from claude_proxy.journal import Journal
from claude_proxy.outlet import Outlet, lane_to
from claude_proxy.settings import Settings

IDENTIFIER = "claude-proxy"
PREFIX = "CLAUDE_PROXY_"
FLUSH_TIMEOUT = 1.0

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
LEFT_TO_JOURNALD = frozenset({"timestamp", "level"})


def priority(level: int) -> int:
    """The syslog severity."""
    return next((number for least, number in PRIORITIES if level >= least), 7)


def drop_color_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """uvicorn sends each line a second time, coloured."""
    event.pop("color_message", None)
    return event


def shown(value: object) -> str:
    """``repr``, whatever that raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - any class may have any fault in its __repr__
        return f"<{type(value).__name__}>"


def json_line(event: EventDict, **_: object) -> str:
    try:
        return json.dumps(event, default=shown)
    except (TypeError, ValueError, RecursionError):
        # A key that is a tuple, or a list that holds itself.
        return json.dumps({str(key): plain(value) for key, value in event.items()})


def plain(value: object) -> object:
    return value if isinstance(value, str | int | float | None) else shown(value)


@functools.lru_cache(maxsize=journal.NAMES_KEPT)
def journal_name(key: str) -> str:
    name = journal.field_name(key)
    return PREFIX + name if name == "LOGGER" or journal.RESERVED.fullmatch(name) else name


def journal_fields(record: logging.LogRecord, line: str) -> dict[str, str]:
    """``line`` is the record as JSON."""
    fields = {
        "MESSAGE": line,
        "PRIORITY": str(priority(record.levelno)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
    }
    if record.name.partition(".")[0] != "claude_proxy":
        fields["LOGGER"] = record.name
    for key, value in json.loads(line).items():
        if value is not None and key not in LEFT_TO_JOURNALD:
            fields[journal_name(key)] = value if isinstance(value, str) else json.dumps(value)
    return fields


def note(event: str, level: int, **fields: object) -> logging.LogRecord:
    """A record of the log about itself."""
    name = logging.getLevelName(level)
    own = {"name": __name__, "msg": event, "levelno": level, "levelname": name}
    return logging.makeLogRecord(own | fields)


class Handler(logging.Handler):
    """Each record to journald when there is one; what that does not take, to stderr."""

    def __init__(
        self, stream: TextIO, to: Journal | None, *, marked: bool, overwrites: bool = False
    ) -> None:
        """``marked``: the stream's reader takes a leading ``<3>`` as the priority and strips it.
        ``overwrites``: it is a terminal, on which a line can stand below all others.
        """
        super().__init__()
        self._outlet = Outlet(lane_to(stream.fileno()), self._lost)
        self._encoding = stream.encoding
        self._journal = to
        self._marked = marked
        self._overwrites = overwrites
        self._below = ""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # no fault of the log's may end what is logged
            self._emit(record, self._rendered(record))

    def progress(self, text: str) -> None:
        """A line below all records, while it is not empty; on a terminal only."""
        if self._overwrites and text != self._below:
            with self._locked():
                self._outlet.write(f"{blank(self._below)}{text}".encode())
                self._below = text

    def push(self) -> None:
        """Tries once more what could not be written, without waiting."""
        with self._locked():
            self._outlet.flush(0)

    def flush(self) -> None:
        with self._locked():
            self._outlet.flush(FLUSH_TIMEOUT)

    def close(self) -> None:
        with self._locked():
            self._outlet.close()
            if self._journal is not None:
                self._journal.close()
        super().close()

    def _rendered(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001 - such as "%d" of a text, or a bad __str__
            fields = {"text": shown(record.msg), "error": shown(error)}
            return self.format(note("log.malformed", record.levelno, **fields))

    def _emit(self, record: logging.LogRecord, line: str) -> None:
        if self._journal is not None:
            self._outlet.flush(0)  # what waits there is older
            if self._journal.send(journal_fields(record, line)):
                return
        self._outlet.write(self._encoded(record, line))

    def _encoded(self, record: logging.LogRecord, line: str) -> bytes:
        mark = f"<{priority(record.levelno)}>" if self._marked else ""
        text = f"{blank(self._below)}{mark}{line}\n{self._below}"
        return text.encode(self._encoding, "backslashreplace")

    def _lost(self, records: int) -> bytes:
        record = note("log.lost", logging.WARNING, records=records)
        # The request that is being logged has nothing to do with it.
        return self._encoded(record, contextvars.Context().run(self._rendered, record))

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


def blank(text: str) -> str:
    """What takes a begun line away again, also where no escape sequence is understood."""
    return f"\r{' ' * len(text)}\r" if text else ""


def handler(log_format: str, stream: TextIO, environ: Mapping[str, str], socket: str) -> Handler:
    streams = journal.is_journal(stream.fileno(), environ)
    native = log_format == "journal" or (log_format == "auto" and streams)
    overwrites = wants_console(log_format, stream) and is_capable(stream, environ)
    to = Journal(socket) if native else None
    return Handler(stream, to, marked=native and streams, overwrites=overwrites)


def wants_console(log_format: str, stream: TextIO) -> bool:
    return log_format == "console" or (log_format == "auto" and stream.isatty())


def is_capable(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether it is a terminal that can do more than show one line after the other."""
    return stream.isatty() and environ.get("TERM") != "dumb"


def brief(_: object, __: str, record: EventDict) -> EventDict:
    """For a person who watches: only what there is to be said."""
    return {name: value for name, value in record.items() if value or name == "event"}


def formatter(
    shared: list[Processor], stream: TextIO, environ: Mapping[str, str], *, console: bool
) -> logging.Formatter:
    colours = is_capable(stream, environ) and not environ.get("NO_COLOR")  # no-color.org
    rendering: list[Processor] = (
        [brief, structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False)]
        if console
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=json_line),
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def configure(
    settings: Settings,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    journal_socket: str = journal.SOCKET,
) -> None:
    """Sends every logger of this process through one handler, one line a record.

    ``stream`` has a descriptor, which stays the caller's. What an earlier call opened is closed.
    """
    stream = stream or sys.stderr
    console = wants_console(settings.log_format, stream)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        drop_color_message,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    environ = os.environ if environ is None else environ
    new = handler(settings.log_format, stream, environ, journal_socket)
    new.setFormatter(formatter(shared, stream, environ, console=console))
    root = logging.getLogger()
    old, root.handlers[:] = root.handlers[:], [new]
    for one in old:
        if isinstance(one, Handler):
            one.flush()
            one.close()
    set_level(settings.log_level)
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


def set_level(level: str) -> None:
    """From now on, whatever ``configure`` was given."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    # uvicorn's own start and stop lines repeat ours; its warnings and errors count.
    logging.getLogger("uvicorn").setLevel(max(number, logging.WARNING))
    logging.getLogger("asyncio").setLevel(max(number, logging.WARNING))


def push() -> None:
    """For whoever comes by now and then: a program that logs nothing more tries nothing more."""
    for one in logging.getLogger().handlers:
        if isinstance(one, Handler):
            one.push()


def progress(text: str) -> None:
    """What is being waited for, as a line that goes away again; empty, it does."""
    for one in logging.getLogger().handlers:
        if isinstance(one, Handler):
            one.progress(text)


def last_words(reason: str, exit_code: int, environ: Mapping[str, str]) -> None:
    """Why the program ends: a record like all others in the journal, else one plain line."""
    if journal.is_journal(sys.stderr.fileno(), environ):
        configure(Settings(), environ=environ)
        structlog.get_logger(__name__).critical("daemon.failed", reason=reason, exit_code=exit_code)
    else:
        sys.stderr.write(f"{IDENTIFIER}: {reason}\n")


def flush() -> None:
    """At the end of the program: gives whoever reads stderr up to FLUSH_TIMEOUT seconds."""
    for one in logging.getLogger().handlers:
        one.flush()
