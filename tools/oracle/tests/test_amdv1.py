# SPDX-License-Identifier: GPL-2.0
"""The walker finds every leaf, and flags every kind of broken table."""

import random
import struct
import unittest

from oracle.amdv1 import DeviceEntry, Leaf
from oracle.tests.table import PR, RW, R, Table, W

K = 1 << 10
M = 1 << 20
G = 1 << 30


class DeviceEntries(unittest.TestCase):
    def test_fields(self) -> None:
        low = 3 | 4 << 9 | 0x12345000 | 1 << 61
        entry = DeviceEntry.decode(struct.pack("<4Q", low, 0x77, 0, 0))
        self.assertEqual(entry, DeviceEntry(True, True, 4, 0x12345000, True, False, 0x77))

    def test_untranslated_is_flagged(self) -> None:
        self.assertIn("not valid", Table().walk(valid=False).problems[0])
        self.assertIn("no valid translation", Table().walk(translation_valid=False).problems[0])
        self.assertIn("mode 0", Table().walk(mode=0).problems[0])
        self.assertIn("reserved mode 7", Table().walk(mode=7).problems[0])

    def test_blocked_holds_nothing(self) -> None:
        walk = Table().walk(mode=0, read=False, write=False)
        self.assertEqual((walk.leaves, walk.problems), ([], []))


class GoodTables(unittest.TestCase):
    def assert_leaves(self, table: Table, expected: list[Leaf]) -> None:
        walk = table.walk()
        self.assertEqual((walk.problems, walk.leaves), ([], expected))

    def test_empty(self) -> None:
        self.assert_leaves(Table(), [])

    def test_every_size_at_every_mode(self) -> None:
        for mode in range(1, 7):
            for shift in range(12, min(12 + 9 * mode, 52)):
                size = 1 << shift
                at = size if 2 * size <= 4096 << 9 * mode else 0
                phys = size if shift < 51 else 0
                table = Table(mode)
                table.map(at, phys, size)
                self.assert_leaves(table, [Leaf(at, phys, size, True, True)])

    def test_neighbours_of_a_run_are_their_own_leaves(self) -> None:
        table = Table()
        for iova, size in (
            (0, 4 * K),
            (4 * K, 4 * K),
            (8 * K, 8 * K),
            (16 * K, 16 * K),
            (32 * K, 4 * K),
        ):
            table.map(iova, 16 * M + iova, size)
        sizes = [leaf.size for leaf in table.walk().leaves]
        self.assertEqual(sizes, [4 * K, 4 * K, 8 * K, 16 * K, 4 * K])

    def test_permissions_are_those_of_all_levels(self) -> None:
        table = Table()
        table.map(0, 0, 4 * K, R)
        table.map(4 * K, 0, 4 * K, W)
        table.map(2 * M, 2 * M, 2 * M, RW)
        seen = [(leaf.read, leaf.write) for leaf in table.walk().leaves]
        self.assertEqual(seen, [(True, False), (False, True), (True, True)])
        seen = [(leaf.read, leaf.write) for leaf in table.walk(write=False).leaves]
        self.assertEqual(seen[0], (True, False))
        self.assertEqual(seen[2], (True, False))

    def test_hardware_may_mark_one_entry_of_a_run(self) -> None:
        table = Table()
        table.map(0, 64 * K, 64 * K)
        table.pages[table.page_for(0, 1)][3] |= 1 << 6 | 1 << 5
        self.assert_leaves(table, [Leaf(0, 64 * K, 64 * K, True, True)])

    def test_random_tables(self) -> None:
        for seed in range(50):
            choice = random.Random(seed)
            table = Table(choice.randint(4, 5))
            expected = []
            iova = choice.randrange(0, 4 * G, 4 * K)
            for _ in range(choice.randint(1, 80)):
                size = 1 << choice.randint(12, 31)
                iova = -(-iova // size) * size
                phys = choice.randrange(0, 1 << 40, size)
                bits = choice.choice((R, W, RW))
                table.map(iova, phys, size, bits)
                expected.append(Leaf(iova, phys, size, bool(bits & R), bool(bits & W)))
                iova += size + choice.choice((0, 0, 4 * K, 3 * M))
            self.assert_leaves(table, expected)


class BrokenTables(unittest.TestCase):
    def assert_flags(self, table: Table, text: str) -> None:
        problems = table.walk().problems
        self.assertTrue(
            any(text in problem for problem in problems), f"{text!r} is not in {problems}"
        )

    def test_unequal_run(self) -> None:
        for size in (8 * K, 64 * K, 1 * M, 4 * M, 512 * M):
            for bit in (1 << 60, 1 << 61, 1 << 40, PR):
                table = Table()
                table.map(2 * size, 2 * size, size)
                page = table.pages[table.page_for(2 * size, 1 if size < 2 * M else 2)]
                last = max(n for n, entry in enumerate(page) if entry)
                page[last] ^= bit
                self.assert_flags(table, "of the run")

    def test_run_not_aligned_to_its_size(self) -> None:
        table = Table()
        table.put(4 * K, 1, PR | 7 << 9 | 16 * K | RW, 2)
        self.assert_flags(table, "not aligned to its size")

    def test_size_of_another_level(self) -> None:
        for size in (8 * K, 1 * M, 2 * M, 1 * G):
            table = Table()
            table.put(0, 2, PR | 7 << 9 | 8 * G | (size >> 1) - 4 * K | RW)
            self.assert_flags(table, "not one of its level")

    def test_misaligned_address_of_a_plain_leaf(self) -> None:
        table = Table()
        table.put(2 * M, 2, PR | 2 * M | 4 * K | RW)
        self.assert_flags(table, "misaligned address")

    def test_reserved_bits(self) -> None:
        for bit in (1, 7, 8, 52, 58, 59, 63):
            table = Table()
            table.put(0, 1, PR | 8 * K | RW | 1 << bit)
            self.assert_flags(table, "reserved bits")
            table = Table()
            table.map(0, 0, 4 * K)
            table.pages[table.root][0] |= 1 << bit
            self.assert_flags(table, "reserved bits")

    def test_next_level(self) -> None:
        table = Table()
        table.put(0, 1, PR | 2 << 9 | RW)
        self.assert_flags(table, "has next level 2")
        table = Table()
        table.put(0, 3, PR | 1 << 9 | table.new_page() | RW)
        self.assert_flags(table, "points at level 1")

    def test_leaf_at_the_highest_level(self) -> None:
        table = Table(6)
        table.map(0, 0, 1 << 57)
        self.assert_flags(table, "level 6 can hold no leaf")

    def test_table_used_twice(self) -> None:
        table = Table()
        table.map(0, 0, 4 * K)
        page = table.pages[table.page_for(0, 2)]
        page[1] = page[0]
        self.assert_flags(table, "used twice")

    def test_present_but_useless(self) -> None:
        table = Table()
        table.map(0, 0, 4 * K, 0)
        self.assert_flags(table, "allows nothing")

    def test_not_present_but_not_zero(self) -> None:
        table = Table()
        table.put(0, 1, 8 * K | RW)
        self.assert_flags(table, "not present")

    def test_beyond_the_last_iova(self) -> None:
        table = Table(6)
        table.pages[table.root][128] = PR | 5 << 9 | table.new_page() | RW
        self.assert_flags(table, "beyond the last iova")


if __name__ == "__main__":
    unittest.main()
