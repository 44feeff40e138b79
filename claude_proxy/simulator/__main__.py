"""`python -m claude_proxy.simulator [--port N] [--fd N] [--until-stdin-closes]`"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import threading
from contextlib import suppress

import uvicorn

from claude_proxy.simulator import directives
from claude_proxy.simulator.app import create_app


def main() -> None:
    options = _parser().parse_args()
    listener = _inherited(options.fd) if options.fd is not None else _bound(options.port)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(),
            http=options.http,
            ws="none",
            loop="asyncio",
            lifespan="off",
            access_log=False,
            # unfinished responses are wanted here (`break`), and uvicorn logs them as errors
            log_level="critical",
            timeout_graceful_shutdown=0,
        )
    )
    if options.until_stdin_closes:
        threading.Thread(target=_exit_with_stdin, daemon=True).start()
    asyncio.run(server.serve(sockets=[listener]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m claude_proxy.simulator",
        description="A simulator of Anthropic's Messages API.",
        epilog=directives.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 (default): any free")
    parser.add_argument("--fd", type=int, help="serve on this inherited listening socket instead")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent")
    parser.add_argument("--http", choices=("auto", "h11", "httptools"), default="auto")
    return parser


def _inherited(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


def _bound(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets that say they are TCP
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201 - asked for
    return listener


def _exit_with_stdin() -> None:
    with suppress(OSError):  # closed from the start
        while os.read(0, 65536):
            pass
    # not a graceful stop: nothing here is worth waiting for, whatever the event loop is doing
    os._exit(0)


if __name__ == "__main__":
    main()
