# SPDX-License-Identifier: GPL-2.0
"""Tests of the test infrastructure: what counts as a failure."""

import tempfile
import unittest
from pathlib import Path

from check import is_meant
from initramfs import Archive
from jobs import TOGETHER, Part, Parts, jobs
from kernels import Kernel
from machine import (
    AGAIN,
    AGAIN_STATUS,
    BOOT_TIME,
    LONGEST,
    NOT_UP,
    Machine,
    Output,
    Result,
    Settings,
    find_reports,
    timer_lost,
    what_stands_still,
)
from programs import GROUPS
from progress import Progress, at_once
from pulse import Pulse
from suites import Guest, Suite, canonical
from suites import Output as Kind
from tally import judge, read_cargo, read_tap, why_failed


class ReadTap(unittest.TestCase):
    def test_counts_each_kind(self) -> None:
        text = "TAP version 13\n1..3\nok 1 a\nnot ok 2 b\nok 3 c # SKIP no device\n"
        tally = read_tap(text)
        self.assertEqual((tally.passed, tally.failed), (1, ["b"]))
        self.assertEqual(len(tally.skipped), 1)
        self.assertIn("no device", tally.skipped[0])

    def test_a_missing_test_is_a_failure(self) -> None:
        self.assertTrue(read_tap("1..2\nok 1 a\n").failed)

    def test_silence_is_a_failure(self) -> None:
        self.assertTrue(read_tap("").failed)

    def test_bailing_out_is_a_failure(self) -> None:
        self.assertTrue(read_tap("1..1\nok 1 a\nBail out! no device\n").failed)


class WhyFailed(unittest.TestCase):
    def test_is_what_the_test_printed(self) -> None:
        text = "1..3\nok 1 a\n# b.c:7: 1 != 2\nnot ok 2 b\n# c is fine\nok 3 c\n# oops\n"
        self.assertEqual(why_failed(text), ["# b.c:7: 1 != 2", "not ok 2 b", "# oops"])

    def test_is_the_end_of_what_is_not_tap(self) -> None:
        self.assertEqual(why_failed("error: a\nerror: b\n"), ["error: a", "error: b"])


class Judge(unittest.TestCase):
    def test_the_exit_status_counts_besides_tap(self) -> None:
        suite = Suite("a", [])
        self.assertFalse(judge(suite, "1..1\nok 1 a\n", 0).failed)
        self.assertTrue(judge(suite, "1..1\nok 1 a\n", 1).failed)

    def test_status_is_the_one_test(self) -> None:
        suite = Suite("a", [], Kind.STATUS)
        self.assertEqual(judge(suite, "ok 1 a\n", 0).passed, 1)
        self.assertTrue(judge(suite, "", 3).failed)

    def test_cargo(self) -> None:
        line = "test result: {}. {} passed; {} failed; 1 ignored; 0 measured; 0 filtered out\n"
        tally = read_cargo(line.format("ok", 3, 0) + line.format("FAILED", 2, 1))
        self.assertEqual((tally.passed, len(tally.failed), len(tally.skipped)), (5, 1, 2))
        self.assertTrue(read_cargo("error: does not compile").failed)


class SharedMachine(unittest.TestCase):
    guest = Guest("debug", "--edu 2", "load_vfio")

    def suites(self, *names: str) -> list[Suite]:
        return [Suite(name, [f"/tests/{name}"], guest=self.guest) for name in names]

    def test_suites_of_the_same_machine_share_it(self) -> None:
        other = Suite("other", ["true"])
        alone = Suite("alone", ["/tests/alone"], guest=Guest("stock", "--edu 2"))
        made = jobs([*self.suites("a"), other, alone, *self.suites(*"bcd")])
        self.assertEqual([job.name for job in made], ["a", "other", "alone"])
        self.assertEqual(made[1].command(), ["true"])
        self.assertIn("load_vfio && { suite a /tests/a; suite b /tests/b;", made[0].command()[-1])

    def test_the_longest_come_first_and_are_dealt_out(self) -> None:
        seconds = {"a": 0.2, "b": 0.3, "c": 0.4, "d": 0.6}
        made = jobs(self.suites(*"abcd"), lambda suite: seconds[suite.name] * TOGETHER)
        self.assertEqual(["".join(s.name for s in job.suites) for job in made], ["da", "cb"])

    def test_one_that_takes_long_has_a_machine(self) -> None:
        made = jobs(self.suites("a"), lambda _: 9.0 * TOGETHER)
        self.assertEqual([job.name for job in made], ["a"])

    def test_the_order_of_options_makes_no_other_machine(self) -> None:
        self.assertEqual(canonical("--snp off  --edu 2 --share"), canonical("--edu 2 --share --snp off"))
        self.assertNotEqual(canonical("--edu 2"), canonical("--edu 4"))

    def test_each_has_its_part_of_the_output(self) -> None:
        parts = Parts()
        text = (
            "vm\n# suite a begins\r\nok 1 x\r\n# suite a ends: status 3, 7 s\r\n"
            "# suite b begins\nok 1 y\n"
        )
        ended = [part for part in map(parts.line, text.splitlines(keepends=True)) if part]
        self.assertEqual(ended, [Part("a", "ok 1 x\r\n", 3, 7)])
        self.assertEqual(parts.under_way(), Part("b", "ok 1 y\n", None, 0))

    def test_one_that_did_not_end_has_failed(self) -> None:
        self.assertTrue(judge(Suite("b", []), "1..1\nok 1 y\n", None).failed)


class Chosen(unittest.TestCase):
    def test_a_name_is_exact_a_pattern_is_one(self) -> None:
        suite = Suite("map_test@debug", [])
        for word in ("map_test", "map_test@debug", "*@debug", "map_*"):
            self.assertTrue(is_meant(suite, word), word)
        for word in ("map", "test@debug", "map_test@stock", "*@stock", "policy_test"):
            self.assertFalse(is_meant(suite, word), word)


class HowFar(unittest.TestCase):
    suites = tuple(Suite(name, [], guest=Guest("stock", "")) for name in "abcd")

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.file = Path(scratch.name) / "times.json"
        self.progress = Progress(self.file, self.suites, [])

    def test_machines_at_a_time_have_memory(self) -> None:
        self.assertEqual(at_once(2, 24 << 30), 4)
        self.assertEqual(at_once(8, 24 << 30), 8)
        self.assertEqual(at_once(16, 1 << 30), 2)

    def test_counts_what_has_ended(self) -> None:
        self.progress.ended(self.suites[0], 5)
        self.assertEqual(self.progress.count(), "[1/4]")

    def test_a_slower_host_takes_longer(self) -> None:
        before = self.progress.left()
        self.progress._begun -= 3600
        for suite in self.suites[:2]:
            self.progress.ended(suite, 5)
        self.assertEqual(before, "a minute left")
        self.assertEqual(self.progress.left(), "60 min left")

    def test_what_is_to_be_built_counts(self) -> None:
        progress = Progress(self.file, self.suites, ["debug"])
        self.assertGreater(progress.expected(), self.progress.expected() + 600)
        progress.built("debug", 5.0)
        self.assertEqual(progress.expected(), self.progress.expected())

    def test_remembers_how_long_each_took(self) -> None:
        self.progress.ended(self.suites[0], 500)
        self.progress.ended(self.suites[1], None)
        self.progress.save()
        again = Progress(self.file, self.suites, [])
        self.assertGreater(again.seconds(self.suites[0]), again.seconds(self.suites[1]))


class Reports(unittest.TestCase):
    def test_finds_what_a_kernel_complains_of(self) -> None:
        for line in (
            "[    5.1] BUG: KASAN: slab-use-after-free in f+0x1/0x2",
            "[    5.1] WARNING: possible circular locking dependency detected",
            "[    5.1] WARNING: CPU: 1 PID: 2 at drivers/iommu/iommu.c:1 f+0x1/0x2",
            "unreferenced object 0xffff888004b40000 (size 64):",
            "[    5.1] rust_kernel: panicked at rust/vfio_pgsize.rs:1:1:",
        ):
            self.assertEqual(len(find_reports(f"[ 1] fine\n{line}\n[ 6] more\n")), 1, line)

    def test_a_starved_processor_is_none_what_follows_is(self) -> None:
        starved = (
            "[  818.0] WARNING: kernel/time/hrtimer.c:1098 at hrtimer_forward+0x121/0x230, CPU#1\n"
            "[  818.1]  {}+0x856/0xc90\n[  842.1] ---[ end trace 0000000000000000 ]---\n"
        )
        bug = "[  843.1] BUG: KASAN: slab-use-after-free in f+0x1/0x2\n"
        self.assertEqual(find_reports(starved.format("dl_task_timer")), [])
        self.assertEqual(len(find_reports(starved.format("dl_task_timer") + bug)), 1)
        self.assertEqual(len(find_reports(starved.format("our_timer"))), 1)

    def test_is_silent_on_a_clean_log(self) -> None:
        self.assertEqual(find_reports("[    1.0] vfio_pgsize: loading out-of-tree module\n"), [])


class Status(unittest.TestCase):
    def feed(self, *pieces: bytes) -> tuple[bytes, int | None]:
        written: list[bytes] = []
        output = Output("nonce-1234", written.append)
        for piece in pieces:
            output.feed(piece)
        output.flush()
        return b"".join(written), output.status

    def test_is_found_in_whatever_pieces_it_comes(self) -> None:
        text = b"ok 1 non\nonce-1\nnonce-1234 17\r\n"
        for cut in range(len(text)):
            self.assertEqual(self.feed(text[:cut], text[cut:]), (b"ok 1 non\nonce-1\n", 17))

    def test_is_none_without_the_nonce(self) -> None:
        self.assertEqual(self.feed(b"nonce-1235 0\n"), (b"nonce-1235 0\n", None))
        self.assertEqual(self.feed(b"nonce-12"), (b"nonce-12", None))


class OwnTime(unittest.TestCase):
    """A machine of two processors, by the host's report on QEMU's threads."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.tasks = Path(scratch.name)
        self.now = 0.0
        self.pulse = Pulse(0, lambda: self.now)
        self.pulse._tasks = self.tasks
        self.thread(1, "qemu (main)", 0, 0)
        self.thread(2, "CPU 0/TCG", 0, 0)
        self.thread(3, "CPU 1/TCG", 0, 0)
        self.pulse.look(0)

    def thread(self, task: int, name: str, taken: float, waited: float) -> None:
        (self.tasks / str(task)).mkdir(exist_ok=True)
        (self.tasks / str(task) / "comm").write_text(f"{name}\n")
        times = f"{int(taken * 1e9)} {int(waited * 1e9)} 1\n"
        (self.tasks / str(task) / "schedstat").write_text(times)

    def pass_time(self, seconds: float, size: int = 0) -> None:
        self.now += seconds
        self.pulse.look(size)

    def test_only_processors_count(self) -> None:
        self.thread(1, "qemu (main)", 900, 0)
        self.pass_time(100)
        self.assertEqual(self.pulse.still(), 100)
        self.thread(2, "CPU 0/TCG", 3, 0)
        self.pass_time(1)
        self.assertEqual(self.pulse.still(), 0)

    def test_stands_while_a_processor_waits_for_the_host(self) -> None:
        self.thread(2, "CPU 0/TCG", 1, 10)
        self.thread(3, "CPU 1/TCG", 1, 380)
        self.pass_time(400)
        self.assertEqual(self.pulse.own(), 20)
        self.assertEqual(self.pulse.silent(), 20)

    def test_a_word_is_progress(self) -> None:
        self.pass_time(100, 7)
        self.pass_time(50, 7)
        self.assertEqual(self.pulse.silent(), 50)
        self.assertEqual(self.pulse.own(), 150)

    def judge(self, log: bytes, timeout: int) -> str | None:
        kernel = Kernel("debug", "7", Path(), Path(), Path())
        machine = Machine(kernel, Settings(timeout=timeout))
        self.addCleanup(machine.scratch.rmdir)
        return machine.too_long(self.pulse, log)

    def test_a_kernel_that_comes_up_slowly_does_not_fail(self) -> None:
        for line in range(10):
            self.thread(2, "CPU 0/TCG", 100 * line, 0)
            self.pass_time(BOOT_TIME - 1, line)
            self.assertIsNone(self.judge(b"[ 4.7] more", 300))
        self.thread(2, "CPU 0/TCG", 2000, 0)
        self.pass_time(BOOT_TIME + 1, 9)
        self.assertEqual(self.judge(b"[ 4.7] more", 300), NOT_UP)

    def test_a_command_ends_by_silence_or_when_it_prints_for_ever(self) -> None:
        up = b"[ 4.7] vm: up\n"
        for word in range(LONGEST):
            self.thread(2, "CPU 0/TCG", 100 * word, 0)
            self.pass_time(100, word)
            self.assertIsNone(self.judge(up, 101))
        self.thread(2, "CPU 0/TCG", 4000, 0)
        self.pass_time(150, LONGEST - 1)
        self.assertIn("no word", str(self.judge(up, 149)))
        self.pass_time(1, LONGEST)
        self.assertIn("no end", str(self.judge(up, 101)))


class TimerLost(unittest.TestCase):
    waited = b"[ 9.5] rcu: rcu_preempt kthread timer wakeup didn't happen for 29979 jiffies!\n"

    def test_of_a_processor_that_is_halted(self) -> None:
        for idle in (
            b"[ 9.4] RIP: 0010:pv_native_safe_halt+0xf/0x20\n",
            b"[ 9.4] NMI backtrace for cpu 1 skipped: idling at default_idle+0xb/0x10\n",
        ):
            self.assertTrue(timer_lost(idle + self.waited))

    def test_not_of_one_that_is_kept_busy(self) -> None:
        busy = b"[ 9.4] RIP: 0010:rmp_changes+0x12/0x80 [vfio_pgsize]\n"
        self.assertFalse(timer_lost(busy + self.waited))
        self.assertFalse(timer_lost(b"[ 9.4] RIP: 0010:pv_native_safe_halt+0xf/0x20\n"))


class RunAgain(unittest.TestCase):
    def test_has_a_status_of_its_own(self) -> None:
        self.assertEqual(Result(None, "lost", [], 1.0, again=True).exit_status(), AGAIN_STATUS)
        self.assertEqual(Result(None, "lost", [], 1.0).exit_status(), 1)


class Hangs(unittest.TestCase):
    def test_a_deadlock_is_told_from_a_lost_timer(self) -> None:
        up = b"[ 4.7] vm: up\n"
        hung = b"[ 90.1] INFO: task map_test:158 blocked for more than 40 seconds.\n"
        self.assertIn(what_stands_still(b""), AGAIN)
        self.assertIn(what_stands_still(up), AGAIN)
        self.assertNotIn(what_stands_still(up + hung), AGAIN)


class WantedPrograms(unittest.TestCase):
    def places(self, file: str, test: str) -> list[str]:
        found = [group.directory for group in GROUPS if group.has_wanted(file, [test])]
        return [Path(place).name for place in found if "selftests" in place]

    def test_a_selftest_is_alone(self) -> None:
        self.assertEqual(self.places("map_test", "policy_test"), [])

    def test_a_script_has_the_programs_that_it_runs(self) -> None:
        self.assertEqual(self.places("vfio_pci_device_test", "vfio_selftests.sh"), ["vfio"])


class Cpio(unittest.TestCase):
    def test_directories_come_once_and_before_their_files(self) -> None:
        archive = Archive()
        archive.file(Path("/a/b/c"), b"x")
        archive.file(Path("/a/b/d"), b"y")
        data = archive.end()
        self.assertEqual(data.count(b"070701"), 5)
        self.assertEqual(len(data) % 512, 0)


if __name__ == "__main__":
    unittest.main()
