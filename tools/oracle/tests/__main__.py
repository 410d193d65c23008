# SPDX-License-Identifier: GPL-2.0
"""Run the oracle's tests and print TAP: python3 -m oracle.tests, in tools/."""

import argparse
import sys
import unittest
from pathlib import Path

from tap.runner import TAPTestRunner


def main() -> int:
    argparse.ArgumentParser(prog="oracle.tests", description=__doc__).parse_args()
    here = Path(__file__).resolve().parent
    suite = unittest.defaultTestLoader.discover(str(here), top_level_dir=str(here.parents[1]))
    runner = TAPTestRunner()
    runner.set_stream(True)
    return 0 if runner.run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
