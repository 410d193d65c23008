# SPDX-License-Identifier: GPL-2.0
"""The oracle's answers to a test: runs, translations, and the dialogue."""

import socket
import threading
import unittest

from oracle.amdv1 import DeviceEntry, Walk
from oracle.memory import OracleError, requester_id
from oracle.runs import Run, join, runs_of, translate
from oracle.server import Session, serve
from oracle.tests.table import R, Table

M = 1 << 20


def small_table() -> Table:
    """Two 2M leaves, scattered in memory, then one readable 4K leaf."""
    table = Table()
    table.map(0, 64 * M, 2 * M)
    table.map(2 * M, 16 * M, 2 * M)
    table.map(4 * M, 8 * M, 4096, R)
    return table


def ask(text: str, table: Table | None = None) -> list[str]:
    table = table or small_table()
    session = Session(lambda device: (table.entry(), table.walk()))
    return [answer for line in text.splitlines() for answer in session.line(line)]


GOOD = "check 0000:00:03.0\n0x0 0x400000 0x200000 rw\n400000 1000 1000 r\n"


class Runs(unittest.TestCase):
    def test_runs_of_leaves(self) -> None:
        self.assertEqual(
            runs_of(small_table().walk().leaves),
            [Run(0, 4 * M, 2 * M, "rw"), Run(4 * M, 4096, 4096, "r")],
        )

    def test_join_keeps_apart_what_differs(self) -> None:
        runs = [
            Run(0, 4096, 4096, "r"),
            Run(4096, 4096, 4096, "rw"),
            Run(8192, 8192, 8192, "rw"),
            Run(32768, 8192, 8192, "rw"),
        ]
        self.assertEqual(join(runs), runs)

    def test_translate(self) -> None:
        leaves = small_table().walk().leaves
        self.assertEqual(translate(leaves, 0x1234), 64 * M + 0x1234)
        self.assertEqual(translate(leaves, 4 * M - 1), 18 * M - 1)
        self.assertEqual(translate(leaves, 4 * M + 4095), 8 * M + 4095)
        self.assertIsNone(translate(leaves, 4 * M + 4096))
        self.assertIsNone(translate([], 0))

    def test_unreadable_runs(self) -> None:
        for text in (
            "0 0 1000 rw",
            "0 1000 3000 rw",
            "0 1000 800 rw",
            "0 1000 1000 x",
            "0 1 1000 r",
        ):
            with self.assertRaises(ValueError, msg=text):
                Run.parse(text.split())


class Verdicts(unittest.TestCase):
    def test_agrees(self) -> None:
        self.assertEqual(ask(GOOD + "end\n"), ["ok 3"])

    def test_runs_may_come_in_pieces(self) -> None:
        pieces = (
            "check 00:03.0\n0 200000 200000 rw\n200000 200000 200000 rw\n400000 1000 1000 r\nend"
        )
        self.assertEqual(ask(pieces), ["ok 3"])

    def test_each_difference_is_found(self) -> None:
        for wrong in (
            "check 00:03.0\nend",
            GOOD.replace("1000 r", "1000 rw") + "end",
            GOOD.replace("0x200000 rw", "0x1000 rw") + "end",
            GOOD.replace("0x400000", "0x200000") + "end",
            GOOD + "401000 1000 1000 r\nend",
            "check 00:03.0\n0 400000 200000 rw\nend",
            GOOD + "at 0 4001000\nend",
            GOOD + "at 402000 4001000\nend",
        ):
            answers = ask(wrong)
            self.assertEqual(len(answers), 1, wrong)
            self.assertTrue(answers[0].startswith("mismatch "), f"{wrong}: {answers}")

    def test_translations(self) -> None:
        self.assertEqual(ask(GOOD + "at 0 4000000\nat 200010 1000010\nend"), ["ok 3"])

    def test_broken_table(self) -> None:
        table = small_table()
        table.pages[table.page_for(0, 2)][0] |= 1 << 55
        self.assertIn("reserved bits", ask(GOOD + "end", table)[0])

    def test_unreadable_line(self) -> None:
        self.assertIn("cannot read the line", ask(GOOD + "zz 1 2 rw\nend")[0])

    def test_machine_that_can_not_be_read(self) -> None:
        def fails(device: str) -> tuple[DeviceEntry, Walk]:
            raise OracleError("no device table")

        session = Session(fails)
        answers = [a for line in ("check 00:03.0", "end") for a in session.line(line)]
        self.assertEqual(answers, ["mismatch no device table"])

    def test_list(self) -> None:
        self.assertEqual(
            ask("list 00:03.0"), ["0x0 0x400000 0x200000 rw", "0x400000 0x1000 0x1000 r", "end 3 3"]
        )


class Dialogue(unittest.TestCase):
    def test_echo_of_answers_is_passed_over(self) -> None:
        self.assertEqual(ask("ok 3\nmismatch x\n\n" + GOOD + "end\nok 3\nend\n"), ["ok 3"])

    def test_new_check_forgets_the_old(self) -> None:
        self.assertEqual(ask("check 00:03.0\nzz\n" + GOOD + "end"), ["ok 3"])

    def test_pci_addresses(self) -> None:
        self.assertEqual(requester_id("0000:00:03.0"), 0x18)
        self.assertEqual(requester_id("01:1f.7"), 0x1FF)
        for wrong in ("", "3", "0001:00:03.0", "00:03.8", "00:20.0", "00:03"):
            with self.assertRaises(OracleError, msg=wrong):
                requester_id(wrong)

    def test_over_a_socket(self) -> None:
        table = small_table()

        class FakeMachine:
            def walk(self, device: str) -> tuple[DeviceEntry, Walk]:
                return table.entry(), table.walk()

            def rmp(self) -> None:
                return None

        ours, guest = socket.socketpair()
        thread = threading.Thread(target=serve, args=(FakeMachine(), ours))
        thread.start()
        with guest, guest.makefile("rw", newline="\n") as lines:
            for text in (GOOD + "end\n", GOOD.replace("\n", "\r\n") + "end\r\n"):
                lines.write(text)
                lines.flush()
                self.assertEqual(lines.readline(), "ok 3\n")
        thread.join(5)
        ours.close()
        self.assertFalse(thread.is_alive())


if __name__ == "__main__":
    unittest.main()
