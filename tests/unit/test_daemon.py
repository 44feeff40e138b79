"""The daemon's socket."""

from __future__ import annotations

import asyncio
import socket

import pytest

from claude_proxy.daemon import PortTaken, address_of, listen
from claude_proxy.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_frames_are_not_held_back(host):
    """Accepted connections have TCP_NODELAY, which asyncio leaves off where proto is 0."""

    async def accepted_option() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_connect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            seen.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = listen(Settings(host=host, port=0))
        server = await asyncio.start_server(on_connect, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            try:
                return await seen
            finally:
                writer.close()
                await writer.wait_closed()

    assert asyncio.run(accepted_option()) != 0


def test_the_address_is_one_that_a_client_can_use():
    with listen(Settings(port=0)) as four, listen(Settings(host="::1", port=0)) as six:
        assert address_of(four) == f"http://127.0.0.1:{four.getsockname()[1]}"
        assert address_of(six) == f"http://[::1]:{six.getsockname()[1]}"


def test_a_taken_port_is_named():
    with listen(Settings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            PortTaken, match=rf"127\.0\.0\.1:{port}: Address already in use; see --port"
        ):
            listen(Settings(port=port))


def test_an_address_of_another_machine_is_named():
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1:8080"):
        listen(Settings(host="192.0.2.1"))
