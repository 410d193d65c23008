#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""An SNP host panics while a processor is in the hook: the machine must reboot.

Runs a machine for each step of a smash. Its panic notifier changes the RMP as ccp's does, through
the functions that are hooked. The command line makes a panic reboot at once, which ends QEMU. A
machine that hangs prints nothing more. Prints TAP.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from extra import ccp
from kernels import NAMES, Kernel, kernel
from machine import BOOTS, Machine, Settings
from module import build_module
from paths import Problem, require_build_root
from programs import programs

# Names as in gates.c of the tests.
STEPS = ("call begins", "hook has the lock", "hook is through", "RMP changed", "call is over")

# Seconds of silence, in the machine's own time: a panic prints all the time.
TIMEOUT = 60

# In this order: the processor was held, the other was at the hook, all is done. The last one takes
# pages back that belong to the firmware on hardware; here it may find that they do not.
SAID = (
    'snp_panic: held at "{step}"',
    "Kernel panic - not syncing: snp-host",
    "snp-host: in a panic",
    "vfio_pgsize: hooked in a panic",
    "snp-host: psmash: 0",
    "vfio_pgsize: hooked in a panic",
    "snp-host: rmp_make_shared: 0",
    "snp-host: amd_iommu_snp_disable: ",
)


def complaint(step: str, log: str, failure: str | None) -> str | None:
    """What is wrong with the end of a machine."""
    place = 0
    for said in SAID:
        text = said.format(step=step)
        place = log.find(text, place)
        if place < 0:
            return f"the log has no '{text}' where it is to be"
        place += len(text)
    if not failure or not failure.startswith("the machine stopped before the command did"):
        return failure or "the command came to its end"
    return None


def run(target: Kernel, step: str, module: Path, built: list[tuple[Path, Path]]) -> str | None:
    with tempfile.TemporaryDirectory(prefix="panic-") as place:
        log = Path(place) / "log"
        settings = Settings(snp="milan", mem="1G", timeout=TIMEOUT, log=log, reports=False)
        command = f". /lib/vm.sh; load_vfio && bind_edu && load_snp_host && snp_panic '{step}'"
        for _ in range(BOOTS):
            result = Machine(target, settings).run(command, module, built)
            if not result.again:
                break
        text = re.sub(r"\r", "", log.read_text(encoding="utf-8", errors="replace"))
        wrong = complaint(step, text, result.failure)
        if wrong:
            print("".join(f"#     {line}\n" for line in text.splitlines()[-60:]), end="")
        return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", choices=NAMES, default="stock")
    parser.add_argument("steps", nargs="*", default=STEPS, metavar="STEP", help="run only these")
    arguments = parser.parse_args()
    try:
        require_build_root()
        target = kernel(arguments.kernel)
        module = build_module(target, test=True)
        built = [*programs(), ccp(target)]
        print(f"TAP version 13\n1..{len(arguments.steps)}")
        failed = False
        for number, step in enumerate(arguments.steps, 1):
            wrong = run(target, step, module, built)
            failed |= wrong is not None
            print(f"{'not ok' if wrong else 'ok'} {number} {step}{f': {wrong}' if wrong else ''}")
    except Problem as problem:
        print(f"panics.py: {problem}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
