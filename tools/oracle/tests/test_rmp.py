# SPDX-License-Identifier: GPL-2.0
"""Entries of the reverse map table, and the questions about them."""

import unittest

from oracle.amdv1 import DeviceEntry, Walk
from oracle.rmp import COUNTS, Entry, Rmp
from oracle.server import Session

BASE = 0x7F600000
HUGE = 1 << 21


def rmp(entries: dict[int, int], size: int = 0xA00000) -> Rmp:
    """A table with these entries, by page number; all others are 0."""
    values = {"base": BASE, "size": size} | {name: n for n, name in enumerate(COUNTS)}

    def read(address: int, size: int) -> bytes:
        page, rest = divmod(address - BASE - 0x4000, 16)
        return entries.get(page, 0).to_bytes(16, "little")[rest : rest + size]

    return Rmp(values.__getitem__, read)


class Entries(unittest.TestCase):
    def test_shared(self) -> None:
        self.assertEqual(rmp({}).entry(0x12345000), Entry(False, False, 0, 0))

    def test_one_page(self) -> None:
        table = rmp({0x12345: 1 | 0xABC000 | 5 << 51})
        self.assertEqual(table.entry(0x12345FFF), Entry(True, False, 0xABC000, 5))
        self.assertFalse(table.entry(0x12344000).assigned)
        self.assertFalse(table.entry(0x12346000).assigned)

    def test_the_first_entry_tells_the_size(self) -> None:
        table = rmp({512: 3 | HUGE | 1 << 51, 513: 1})
        self.assertEqual(table.entry(HUGE), Entry(True, True, HUGE, 1))
        self.assertEqual(table.entry(HUGE + 4096), Entry(True, True, 0, 0))
        self.assertEqual(table.entry(2 * HUGE), Entry(False, False, 0, 0))

    def test_fields_do_not_mix(self) -> None:
        table = rmp({1: ~(0x3FF << 51 | 1 << 63) & (1 << 64) - 1})
        self.assertEqual(table.entry(4096), Entry(True, False, ((1 << 39) - 1) << 12, 0))

    def test_past_the_end(self) -> None:
        table = rmp({}, 0x4000 + 16 * 2)
        table.entry(4096)
        self.assertRaises(ValueError, table.entry, 8192)


class Dialogue(unittest.TestCase):
    def ask(self, line: str, table: Rmp | None) -> list[str]:
        def no_walk(device: str) -> tuple[DeviceEntry, Walk]:
            raise AssertionError("nobody asked for a page table")

        return list(Session(no_walk, table).line(line))

    def test_entry(self) -> None:
        table = rmp({0x12345: 1 | 0xABC000 | 5 << 51})
        self.assertEqual(self.ask("rmp 12345000", table), ["entry assigned 4K 0xabc000 5"])
        self.assertEqual(self.ask("rmp 0", table), ["entry shared 4K 0x0 0"])

    def test_counts(self) -> None:
        self.assertEqual(self.ask("rmp", rmp({})), ["counts 0 1 2 3 4 5 6"])

    def test_bad_questions(self) -> None:
        self.assertRegex(self.ask("rmp x", rmp({}))[0], "^mismatch ")
        self.assertRegex(self.ask("rmp ffffffffff000", rmp({}))[0], "^mismatch ")
        self.assertRegex(self.ask("rmp 0", None)[0], "^mismatch ")

    def test_an_echo_is_passed_over(self) -> None:
        self.assertEqual(self.ask("entry shared 4K 0x0 0", rmp({})), [])
        self.assertEqual(self.ask("counts 0 1 2 3 4 5 6", rmp({})), [])


if __name__ == "__main__":
    unittest.main()
