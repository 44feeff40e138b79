"""How the program ends; the numbers above 63 are those of sysexits.h."""

from __future__ import annotations

WELL = 0
SOMETHING_WRONG = 1
EX_USAGE = 2
NOT_RUNNING = 3  # as the Linux Standard Base has it for `status`
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CONFIG = 78
INTERRUPTED = 130

MEANING = {
    WELL: "it ended as it should, also by SIGTERM and after --idle-exit",
    SOMETHING_WRONG: "check: something is wrong",
    EX_USAGE: "a wrong flag, variable or command",
    NOT_RUNNING: "status: nothing runs, and nothing would start with the next connection",
    EX_UNAVAILABLE: "it cannot listen: the port is taken, the address is not there",
    EX_SOFTWARE: "a fault of its own; the log has the place",
    EX_CONFIG: "the configuration cannot work: no CLI or one that is too old, a file that cannot "
    "be read or is wrong",
    INTERRUPTED: "Ctrl-C before it served",
}
