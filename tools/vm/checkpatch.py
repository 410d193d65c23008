# SPDX-License-Identifier: GPL-2.0
"""The kernel's checkpatch --strict, on all C, with a list of its false positives.

Kernel code must pass all of it. Test programs and samples are not kernel code:
they have neither the kernel's macros nor its types.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kernels import source
from paths import SRC, Problem

KERNEL = ("rust", "include", "tools/testing/snp-host")

# Type: why it does not apply outside the kernel.
NOT_OUTSIDE = {
    "ARRAY_SIZE": "a macro of the kernel",
    "BIT_MACRO": "a macro of the kernel",
    "BRACES": "ASSERT_... of kselftest_harness.h is more than one statement",
    "CAMELCASE": "PRIu64, C11's keywords, short names of fixtures",
    "EMBEDDED_FUNCTION_NAME": "an English word that a function is called, too",
    "LONG_LINE_STRING": "what can be searched for is in one line",
    "MACRO_ARG_REUSE": "tests' macros are given constants and plain variables",
    "MACRO_WITH_FLOW_CONTROL": "TRY() is to return, tests' macros are to end the test",
    "MULTISTATEMENT_MACRO_USE_DO_WHILE": "ends with the harness's OPTIONAL_HANDLER(), as its own do",
    "NEW_TYPEDEFS": "names of kselftest's fixtures are too long to write them out",
    "PREFER_DEFINED_ATTRIBUTE_MACRO": "macros of the kernel",
    "PREFER_KERNEL_TYPES": "uint64_t is what userspace has",
    "SPLIT_STRING": "usage texts have lines of their own",
    "STATIC_CONST_CHAR_ARRAY": "where it stands for argv, char ** it must be",
    "SSCANF_TO_KSTRTO": "a function of the kernel",
    "VOLATILE": "a device's registers, mapped",
}

# False positives: file names, the message, why it is wrong.
WRONG = (
    (r"rust/sys/trace\.h", "OPEN_ENDED_LINE|PARENTHESIS_ALIGNMENT", "TRACE_EVENT() is written so"),
    (r"tools/testing/snp-host/.*", "STATIC_CONST_CHAR_ARRAY", "register_fprobe_syms() wants it so"),
    (r"tools/.*", r"spaces preferred around that '\*'", "FIXTURE_DATA(a) *self is no product"),
    (r"tools/.*\.c", "blank line after function/struct", "FIXTURE_VARIANT_ADD() is no struct"),
    (r"tools/.*", "Missing a blank line after declarations", "a pointer to a function is one, too"),
    (r"tools/.*", "space prohibited between function name", "a pointer to a function"),
    (r"tools/.*", "COMPLEX_MACRO|No space is necessary after a cast", "initializers, _Atomic(type)"),
    (r"tools/.*", "multiple assignments should be avoided", "they say that values are equal"),
)

LINE_OUTSIDE = 110


def checkpatch(files: Iterable[Path]) -> None:
    """Raise Problem with all true positives."""
    names = [str(file.relative_to(SRC)) for file in files]
    inside = [name for name in names if name.startswith(tuple(f"{place}/" for place in KERNEL))]
    outside = [name for name in names if name not in inside]
    said = _run(inside, [])
    options = [f"--ignore={','.join(NOT_OUTSIDE)}", f"--max-line-length={LINE_OUTSIDE}"]
    said += _run(outside, options)
    rightly = [line for line in said if not _is_wrong(line)]
    if rightly:
        raise Problem("checkpatch says:\n" + "\n".join(f"    {line}" for line in rightly))


def _is_wrong(line: str) -> bool:
    name = line.partition(":")[0]
    return any(re.fullmatch(file, name) and re.search(text, line) for file, text, _ in WRONG)


def _run(names: list[str], options: list[str]) -> list[str]:
    script = source() / "scripts/checkpatch.pl"
    command = ["perl", str(script), "--no-tree", "--strict", "--terse", "--no-summary", "--show-types"]
    # checkpatch depends on a file's place in the tree, and writes files where it runs.
    with tempfile.TemporaryDirectory() as scratch:
        for place in SRC.iterdir():
            (Path(scratch) / place.name).symlink_to(place)
        result = subprocess.run(
            [*command, *options, "-f", *names], cwd=scratch, capture_output=True, text=True, check=False
        )
    lines = [line for line in result.stdout.splitlines() if line]
    if result.returncode and not lines:
        raise Problem(f"checkpatch does not run: {result.stderr}")
    return lines
