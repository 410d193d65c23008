# SPDX-License-Identifier: GPL-2.0
"""Answers tests in the guest over a serial port.

A test writes lines (numbers in hex, with or without 0x):

    check 0000:00:03.0              the device whose page table to read
    <iova> <size> <pgsize> <r|w|rw> a run that must exist, in rising order
    at <iova> <phys>                a translation that must hold
    end

and reads one line: `ok <number of leaves>`, or `mismatch <why>`. The runs are
all that the device may reach: an additional run in the table is a mismatch, and so
is a table that violates the format's rules. The answer to `list 0000:00:03.0` is
the runs found, a line each, and `end <leaves> <pages of tables>`.

On an SNP host, the answer to `rmp <phys>` is `entry assigned|shared 2M|4K <gpa>
<asid>`, and the answer to `rmp` alone is `counts` and the numbers of rmp.COUNTS.

A serial line that echoes returns the server's answers, which it ignores. A second
`check` discards one without `end`.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from oracle.amdv1 import DeviceEntry, Walk
from oracle.memory import Machine, OracleError
from oracle.rmp import Rmp
from oracle.runs import Expectation, Run, runs_of

log = logging.getLogger("oracle")

Connection = TypeVar("Connection", Machine, socket.socket)
WalkDevice = Callable[[str], tuple[DeviceEntry, Walk]]

ANSWERS = ("ok", "mismatch", "entry", "counts")

# Seconds for a starting QEMU to listen, on a host that may be busy.
STARTING = 300


class Session:
    """The dialogue with the guest, one line at a time."""

    def __init__(self, walk: WalkDevice, rmp: Rmp | None = None):
        self._walk = walk
        self._rmp = rmp
        self._device: str | None = None
        self._expected = Expectation()
        self._unreadable: str | None = None

    def line(self, text: str) -> Iterator[str]:
        """Process a line from the guest; return the lines to answer."""
        words = text.split()
        if not words or words[0] in ANSWERS:
            return
        if words[0] == "check" and len(words) == 2:
            self._device = words[1]
            self._expected = Expectation()
            self._unreadable = None
        elif words[0] == "list" and len(words) == 2:
            yield from self._list(words[1])
        elif words[0] == "rmp":
            yield self._ask_rmp(words[1:])
        elif self._device is None:
            log.info("passed over outside a check: %r", text)
        elif words == ["end"]:
            yield self._verdict(self._device)
            self._device = None
        else:
            self._expect(text, words)

    def _expect(self, text: str, words: list[str]) -> None:
        try:
            if words[0] == "at" and len(words) == 3:
                self._expected.translations.append((int(words[1], 16), int(words[2], 16)))
            else:
                self._expected.runs.append(Run.parse(words))
        except ValueError as error:
            self._unreadable = self._unreadable or f"cannot read the line {text!r}: {error}"

    def _ask_rmp(self, words: list[str]) -> str:
        try:
            if not self._rmp:
                raise OracleError("there is no RMP to read")
            if words:
                return f"entry {self._rmp.entry(int(words[0], 16))}"
            return f"counts {' '.join(map(str, self._rmp.counts()))}"
        except (ValueError, OracleError) as error:
            return f"mismatch {error}"

    def _verdict(self, device: str) -> str:
        if self._unreadable:
            return f"mismatch {self._unreadable}"
        try:
            _, walk = self._walk(device)
        except OracleError as error:
            return f"mismatch {error}"
        problem = walk.problems[0] if walk.problems else self._expected.differs(walk.leaves)
        return f"mismatch {problem}" if problem else f"ok {len(walk.leaves)}"

    def _list(self, device: str) -> Iterator[str]:
        try:
            _, walk = self._walk(device)
        except OracleError as error:
            yield f"mismatch {error}"
            return
        if walk.problems:
            yield f"mismatch {walk.problems[0]}"
            return
        yield from map(str, runs_of(walk.leaves))
        yield f"end {len(walk.leaves)} {len(walk.tables)}"


def serve(machine: Machine, port: socket.socket) -> None:
    """Answer on this serial port until the other end closes."""
    session = Session(machine.walk, machine.rmp())
    with port.makefile("rw", encoding="ascii", errors="replace", newline=None) as lines:
        for text in lines:
            for answer in session.line(text):
                log.info("%s -> %s", text.strip(), answer)
                lines.write(answer + "\n")
                lines.flush()


def open_port(path: str) -> socket.socket:
    """Connect to QEMU's serial port, a unix socket."""
    port = socket.socket(socket.AF_UNIX)
    try:
        port.connect(path)
    except OSError as error:
        port.close()
        raise OracleError(f"no serial port at {path}: {error}") from error
    return port


def while_starting(connect: Callable[[str], Connection], path: str) -> Connection:
    """Connect to a QEMU that may still be starting."""
    deadline = time.monotonic() + STARTING
    while True:
        try:
            return connect(path)
        except OracleError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def serve_at(qmp_socket: str, serial_socket: str) -> None:
    """Connect to a QEMU's monitor and serial port (unix sockets) and serve."""
    with (
        while_starting(Machine, qmp_socket) as machine,
        while_starting(open_port, serial_socket) as port,
        suppress(ConnectionError),  # It ends when the machine is switched off.
    ):
        serve(machine, port)


def serve_in_thread(qmp_socket: str, serial_socket: str) -> threading.Thread:
    """Serve in a thread, which ends when QEMU does.

    Call it as soon as QEMU runs, with `-qmp unix:QMP,server=on,wait=off` and,
    for the guest's second serial port,
    `-chardev socket,id=oracle,path=SERIAL,server=on,wait=off`
    `-serial chardev:oracle`. Output of the guest before the oracle connects is lost.
    The oracle needs its own monitor: QMP serves one client at a time.
    """

    def run() -> None:
        try:
            serve_at(qmp_socket, serial_socket)
        except OracleError as error:
            log.error("%s", error)

    thread = threading.Thread(target=run, name="oracle", daemon=True)
    thread.start()
    return thread
