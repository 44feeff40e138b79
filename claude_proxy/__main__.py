"""The way in. All that is imported comes after the signals, and without the collector's help."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, as ``entry.enter`` has it."""
    open_standard_streams()
    end_at_once_when_told()
    # What is imported stays: to look through it again and again costs a tenth of the start, which
    # a connection may be waiting for. The daemon switches it on again.
    gc.disable()
    from claude_proxy import entry  # noqa: PLC0415

    return entry.enter(sys.argv[1:] if argv is None else argv)


def end_at_once_when_told() -> None:
    """Until the daemon takes the signals over; there is nothing yet that needs an orderly end.

    Not by an exception: it would come out of whatever is imported or parsed at that moment, and
    not always as itself. argparse has made an AttributeError of it (measured: 2 of 250 starts).
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))


def open_standard_streams() -> None:
    """Started with closed descriptors 0 to 2, a socket would get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    raise SystemExit(main())
