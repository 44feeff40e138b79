"""What was answered and may be asked for again: in the store, else for a while in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from typing import TypeVar

import structlog

from claude_proxy.database import StoreUnusable
from claude_proxy.directories import state_directory
from claude_proxy.errors import ProxyError
from claude_proxy.settings import Settings
from claude_proxy.store import RecentItems, Record, Store
from claude_proxy.tasks import running

log = structlog.get_logger()

EXPIRE_INTERVAL = 3_600.0
EXPIRE_PAUSE = 0.1

Found = TypeVar("Found")


class Kept:
    """Without a ``store``, responses cannot be fetched, but their items can be referred to.

    ``get``, ``delete``, ``context`` and ``asked`` raise ProxyError when the store fails.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._recent = RecentItems()

    @property
    def stores(self) -> bool:
        return self._store is not None

    def put(self, record: Record, *, stored: bool) -> bool:
        """Whether it is stored: an answer must not fail because it cannot be kept."""
        if stored and self._store is not None:
            try:
                self._store.put(record)
            except StoreUnusable as error:
                log.warning("store.response_lost", response=record.id, reason=str(error))
            else:
                return True
        self._recent.add(record.said)
        return False

    def get(self, id_: str) -> bytes | None:
        """The response's body."""
        return self._read(lambda store: store.get(id_))

    def delete(self, id_: str) -> bool:
        return bool(self._read(lambda store: store.delete(id_)))

    def context(self, id_: str) -> list[bytes] | None:
        """The items of the conversation up to and with that response."""
        return self._read(lambda store: store.context(id_))

    def asked(self, id_: str) -> list[bytes] | None:
        """The response's own input items."""
        return self._read(lambda store: store.asked(id_))

    def item(self, id_: str) -> bytes | None:
        """An item that was given out; None also when the store fails, as it may not be needed."""
        try:
            return self._recent.get(id_) or self._read(lambda store: store.item(id_))
        except ProxyError:
            return None

    def _read(self, read: Callable[[Store], Found | None]) -> Found | None:
        if self._store is None:
            return None
        try:
            return read(self._store)
        except StoreUnusable as error:
            log.warning("store.unusable", reason=str(error))
            raise ProxyError(
                "The kept responses cannot be read or changed now; the log says why"
            ) from None


@asynccontextmanager
async def keeping(settings: Settings, environ: Mapping[str, str]) -> AsyncGenerator[Kept, None]:
    """The kept responses; a store that cannot be used is done without."""
    store = open_store(settings, environ)
    if store is None:
        yield Kept(None)
        return
    with closing(store):
        async with running(expire(store), "expire"):
            yield Kept(store)


def open_store(settings: Settings, environ: Mapping[str, str]) -> Store | None:
    try:
        path = state_directory(environ) / "responses.db"
        if not settings.store_days:
            if path.exists():
                log.warning("store.left", path=str(path), note="kept earlier; delete it by hand")
            return None
        return Store.open(path, days=settings.store_days, limit=settings.store_size)
    except (StoreUnusable, RuntimeError) as error:
        log.warning("store.unusable", reason=str(error), note="no response will be kept")
        return None


async def expire(store: Store) -> None:
    while True:
        more = False
        try:
            more = store.expire()
        except StoreUnusable as error:
            log.warning("store.unusable", reason=str(error))
        await asyncio.sleep(EXPIRE_PAUSE if more else EXPIRE_INTERVAL)
