#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Gives a QEMU one command through its monitor, and prints what it returns."""

import argparse
import json
import sys
import time

from qemu.qmp import ConnectError, QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

# Seconds between two attempts to reach a QEMU that starts.
PAUSE = 0.5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket", help="of the monitor")
    parser.add_argument("command")
    parser.add_argument("arguments", nargs="?", type=json.loads, default={}, help="of the command, as JSON")
    parser.add_argument("--until", metavar="EVENT", help="then wait for this event")
    parser.add_argument("--patience", type=float, default=300, metavar="S", help="seconds to wait (300)")
    return parser.parse_args()


def connect(monitor: QEMUMonitorProtocol, patience: float) -> None:
    """QEMU makes the socket some time after its start."""
    end = time.monotonic() + patience
    while True:
        try:
            monitor.connect()
            return
        except ConnectError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)


def main() -> int:
    given = parse()
    monitor = QEMUMonitorProtocol(given.socket)
    try:
        connect(monitor, given.patience)
        monitor.settimeout(given.patience)
        print(json.dumps(monitor.cmd(given.command, **given.arguments)))
        while given.until:
            event = monitor.pull_event(wait=given.patience)
            if event and event["event"] == given.until:
                break
    except (QMPError, TimeoutError) as error:
        print(f"qmp.py: {given.command}: {error!r}", file=sys.stderr)
        return 1
    finally:
        monitor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
