#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the oracle from the command line: oracle.py --help."""

import sys
from pathlib import Path

# The package that this file lies in, not this file, is `oracle`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from oracle.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
