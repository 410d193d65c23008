# SPDX-License-Identifier: GPL-2.0
"""One run of the virtual machine: QEMU, its serial ports, its end.

The first serial port is the kernel's console and goes to a file; the second is
for the oracle; the third is the command's terminal. The command's exit status is
a line with a nonce on the third port. Without it the machine has failed, however
QEMU ended.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from select import select

from initramfs import initramfs
from kernels import Kernel
from paths import SRC, say
from pulse import Pulse
from snp_qemu import ROMS, qemu

sys.path.append(str(SRC / "tools"))
from oracle.server import serve_in_thread

# What the kernel prints on an error.
REPORT = re.compile(
    r"BUG: |WARNING: |KASAN: |UBSAN: |Oops|general protection fault|panicked at"
    r"|INFO: task .* blocked|INFO: rcu.* stall|rcu: INFO: .*stall|suspicious RCU usage"
    r"|possible (circular|recursive|irq lock)|inconsistent lock state|unreferenced object"
    r"|refcount_t: |DEBUG_LOCKS_WARN|list_(add|del) corruption|Kernel panic"
)
REPORT_LINES = 60

# A scheduler warning if a processor did not run for minutes: a deadline server's timer is
# queued again while it is handled. The code under test is not involved.
STARVED = re.compile(r"WARNING: kernel/time/hrtimer\.c.* at hrtimer_forward")
STARVED_BY = re.compile(r"\bdl_task_timer\+")

# The machines of the QEMU that can be an SNP host. Linux requires bare metal, and
# a CPU of Zen 3 or 4, or one with RMPREAD.
SNP_MODELS = {
    "off": ("q35,snp=off", "EPYC-Milan"),
    "milan": ("q35,snp=on", "EPYC-Milan"),
    "rmpread": ("q35,snp=on", "EPYC-Genoa,family=26,model=2,rmpread=on"),
}
# Without these flags kernel and libc do not clear and copy by `rep stosb` and `rep movsb`, which
# TCG runs byte by byte: clearing a page takes a fifth of the time.
BARE = "-hypervisor,-erms,-fsrm"
# Milliseconds before an edu device's transfer, on that machine.
SNP_EDU_DELAY = 1

# Seconds for the machine to switch itself off when done: the host may be busy.
GOODBYE = 120

# Without KVM, on a busy host, a processor occasionally loses its timer: it halts forever while
# work waits for it, during boot or later. QEMU 10.0 had one cause, fixed in ours
# (tools/snp-qemu/patches/1-repairs). No code in the kernel can cause this, so the machine runs
# again. There are three signs: /init, which first prints UP, is not reached; the processors take
# hardly any time for longer than any test waits; or RCU waited in vain for its own timer and
# reports an idle processor. A deadlock differs: the kernel reports a hung task before.
UP = b"vm: up"
NOT_UP = "the kernel did not come up"
STANDS_STILL = "the machine stands still"
TIMER_LOST = "a processor's timer is lost"
AGAIN = (NOT_UP, STANDS_STILL, TIMER_LOST)
HANGS = "a task hangs, and the machine stands still"
BOOTS = 3

# vm.py's exit status for such a machine, if its output was already passed on.
AGAIN_STATUS = 75

# Seconds of the machine's own time (pulse.py), so a busy host makes no machine fail.
# Without a log line during boot:
BOOT_TIME = 120
# Idle: longer than until the kernel reports a hung task once, shorter than until the third time.
STILL_TIME = 300
# A machine that never stops printing ends after this many times the permitted silence.
LONGEST = 20

# Seconds between two checks of a machine.
LOOK = 10

# The kernel measures these in wall time: seconds until it reports a hung task and a stalled RCU,
# and half of the seconds until it reports a processor that does not switch tasks.
HUNG_TIME = 120
STALL_TIME = 240
WATCHDOG_TIME = 60
RCU_WAITED = re.compile(rb"kthread timer wakeup didn't happen")
IDLE = re.compile(rb"NMI backtrace for cpu \d+ skipped: idling|RIP: 0010:\w*safe_halt")
HUNG = re.compile(rb"INFO: task .* blocked for more than")


@dataclass
class Settings:
    """The configuration of the machine."""

    smp: int = 2
    mem: str = "2G"
    edu: int = 1
    icount: bool = False
    share: bool = False
    oracle: bool = False
    iommu: str = "amd"
    snp: str = ""
    dirty: bool = False
    timeout: int = 300
    log: Path | None = None
    reports: bool = True
    leaks: bool = False
    huge_1g: int = 0
    interactive: bool = False
    append: str = ""
    quick_path: bool = False
    qemu: list[str] = field(default_factory=list)


@dataclass
class Result:
    """How a run ended: the command's status, or why there is none."""

    status: int | None
    failure: str | None
    reports: list[str]
    seconds: float
    again: bool = False

    def exit_status(self) -> int:
        if self.again:
            return AGAIN_STATUS
        if self.status:
            return self.status
        return 1 if self.failure or self.reports else 0


class Machine:
    """A virtual machine that runs one command and ends."""

    def __init__(self, kernel: Kernel, settings: Settings):
        self.kernel = kernel
        self.settings = settings
        self.scratch = Path(tempfile.mkdtemp(prefix="vm-"))
        self.log = settings.log or self.scratch / "kernel.log"
        self.nonce = f"vm-status-{secrets.token_hex(8)}"

    def arguments(self) -> list[str]:
        """QEMU's command line."""
        settings = self.settings
        threads = "single" if settings.icount else "multi"
        append = ["console=ttyS0", "printk.time=1", "panic=-1", "oops=panic"]
        # The check counts ticks for a time by the TSC: a processor that the host does not run sees
        # none, and panics.
        append.append("no_timer_check")
        append.append(f"rcupdate.rcu_cpu_stall_timeout={STALL_TIME}")
        append.append(f"watchdog_thresh={WATCHDOG_TIME}")
        append.append(f"sysctl.kernel.hung_task_timeout_secs={HUNG_TIME}")
        if self.kernel.name == "debug":
            # Page states have no quick path where the IOMMU core counts what devices reach.
            append.append(f"iommu.debug_pagealloc={0 if settings.quick_path else 1}")
            append.append(f"kmemleak={'on' if settings.leaks else 'off'}")
            append.append("mitigations=off")
        if settings.huge_1g:
            append.append(f"hugepagesz=1G hugepages={settings.huge_1g}")
        line = [*self.model(), "-accel", f"tcg,thread={threads}"]
        line += ["-smp", str(1 if settings.icount else settings.smp)]
        line += ["-name", "vm,debug-threads=on"]
        line += ["-m", settings.mem, "-no-reboot", "-nodefaults", "-display", "none"]
        line += ["-kernel", str(self.kernel.image), "-initrd", str(self.scratch / "initramfs")]
        if settings.icount:
            line += ["-icount", "shift=0,sleep=off"]
        if settings.iommu == "intel":
            append.append("intel_iommu=on")
        line += ["-device", self.iommu()]
        edu = "edu,dma_mask=0xffffffffffffffff"
        if settings.snp:
            edu += f",dma_delay={SNP_EDU_DELAY}"
        for number in range(settings.edu):
            line += ["-device", f"{edu},addr={3 + number:#x}"]
        ports = [(0, 4, f"file,path={self.log}"), (2, 5, "stdio,signal=off")]
        if settings.oracle:
            qmp, serial = self.sockets()
            line += ["-qmp", f"unix:{qmp},server=on,wait=off"]
            ports.append((1, 3, f"socket,path={serial},server=on,wait=off"))
        for index, irq, backend in ports:
            kind, _, rest = backend.partition(",")
            line += ["-chardev", f"{kind},id=port{index},{rest}"]
            line += ["-device", f"isa-serial,chardev=port{index},index={index},irq={irq}"]
        if settings.share:
            line += ["-fsdev", "local,id=share,path=/,security_model=passthrough,multidevs=remap,readonly=on"]
            line += ["-device", "virtio-9p-pci,fsdev=share,mount_tag=share,addr=0x1d"]
        return [*line, "-append", " ".join([*append, settings.append]), *settings.qemu]

    def model(self) -> list[str]:
        """QEMU, its machine and its CPU."""
        if not self.settings.snp:
            return ["qemu-system-x86_64", "-M", "q35", "-cpu", "EPYC-v4"]
        roms = [word for place in ROMS for word in ("-L", place)]
        machine, cpu = SNP_MODELS[self.settings.snp]
        return [str(qemu()), *roms, "-M", machine, "-cpu", f"{cpu},{BARE}"]

    def iommu(self) -> str:
        if self.settings.iommu == "intel":
            return "intel-iommu,caching-mode=on"
        if not self.settings.snp:
            return "amd-iommu,dma-remap=on"
        # the SNP host's older QEMU always remaps DMA; dirty bits are its own (tools/snp-qemu)
        return "amd-iommu,hdsup=on" if self.settings.dirty else "amd-iommu"

    def sockets(self) -> tuple[Path, Path]:
        return self.scratch / "qmp", self.scratch / "oracle"

    def parameters(self) -> dict[str, str]:
        """Shell variables for /init."""
        size = shutil.get_terminal_size()
        flags = {
            "share": self.settings.share,
            "oracle": self.settings.oracle,
            "leaks": self.settings.leaks and self.settings.reports,
            "interactive": self.settings.interactive,
        }
        texts = {"nonce": self.nonce, "rows": str(size.lines), "cols": str(size.columns)}
        return {name: "yes" if on else "" for name, on in flags.items()} | texts

    def run(self, command: str, module: Path | None, programs: list[tuple[Path, Path]]) -> Result:
        """Boot, run the command, and report the result."""
        image = initramfs(self.kernel, module, command, self.parameters(), programs)
        (self.scratch / "initramfs").write_bytes(image)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            for left in reversed(range(BOOTS)):
                self.log.write_bytes(b"")
                begun = time.monotonic()
                status, failure = self.watch()
                if failure != NOT_UP or not left:
                    break
                say(f"{failure} after {time.monotonic() - begun:.0f} s: once more")
            again = failure in AGAIN and failure != NOT_UP
            text = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "")
            if failure is not None:
                failure += self.last_words(text)
            reports = find_reports(text) if self.settings.reports else []
            return Result(status, failure, reports, time.monotonic() - started, again)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def watch(self) -> tuple[int | None, str | None]:
        """Run QEMU and pass the command's output on until its status arrives."""
        errors = self.scratch / "qemu.errors"
        with open(errors, "wb") as complaints:
            qemu = subprocess.Popen(
                self.arguments(),
                stdin=None if self.settings.interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        if self.settings.oracle:
            self.start_oracle()
        assert qemu.stdout
        output = Output(self.nonce, pass_on)
        pulse = Pulse(qemu.pid)
        received = 0
        try:
            while output.status is None:
                log = self.log.read_bytes()
                pulse.look(received + len(log))
                failure = self.too_long(pulse, log)
                if failure:
                    output.flush()
                    return None, failure
                if not select([qemu.stdout], [], [], LOOK)[0]:
                    continue
                data = os.read(qemu.stdout.fileno(), 65536)
                if not data:
                    break
                received += len(data)
                output.feed(data)
            output.flush()
            try:
                qemu.wait(GOODBYE)
            except subprocess.TimeoutExpired:
                if output.status is None:
                    return None, "QEMU closed its output and went on"
            if output.status is None:
                text = errors.read_text(encoding="utf-8", errors="replace").splitlines()
                text = [line for line in text if "TCG doesn't support" not in line]
                said = "".join(f"\n    qemu: {line}" for line in text[-5:])
                return None, f"the machine stopped before the command did{said}"
            return output.status, None
        finally:
            if qemu.poll() is None:
                qemu.kill()
                qemu.wait()

    def too_long(self, pulse: Pulse, log: bytes) -> str | None:
        """What is wrong with a machine that does not end."""
        timeout = self.settings.timeout
        if UP not in log and pulse.silent() > BOOT_TIME:
            return NOT_UP
        if not self.settings.interactive and pulse.still() > STILL_TIME:
            return what_stands_still(log)
        if timer_lost(log):
            return TIMER_LOST
        if pulse.silent() > timeout:
            return f"no word for {timeout} s of the machine's own time (--timeout)"
        if pulse.own() > LONGEST * timeout:
            return f"no end after {LONGEST * timeout} s of the machine's own time ({LONGEST} x --timeout)"
        return None

    def start_oracle(self) -> None:
        qmp, serial = self.sockets()
        serve_in_thread(str(qmp), str(serial))

    def last_words(self, log: str) -> str:
        lines = log.splitlines()
        start = next((n for n, line in enumerate(lines) if "Kernel panic" in line), len(lines))
        return "".join(f"\n    {line}" for line in lines[max(0, start - 40) : start + 20])


class Output:
    """Passes the command's output on, and finds the status in it."""

    def __init__(self, nonce: str, write: Callable[[bytes], None]):
        self._nonce = nonce.encode()
        self._write = write
        self._held = b""
        self.status: int | None = None

    def feed(self, data: bytes) -> None:
        data = self._held + data
        place = data.find(self._nonce)
        if place < 0:
            keep = self._beginning(data)
            self._held = data[len(data) - keep :]
            self._write(data[: len(data) - keep])
            return
        self._write(data[:place])
        self._held = data[place:]
        found = re.match(rb" (\d+)\r?\n", self._held[len(self._nonce) :])
        if found:
            self._held = b""
            self.status = int(found[1])

    def flush(self) -> None:
        self._write(self._held)
        self._held = b""

    def _beginning(self, data: bytes) -> int:
        """Number of bytes at the end that may be the beginning of the nonce."""
        for size in range(min(len(self._nonce) - 1, len(data)), 0, -1):
            if self._nonce.startswith(data[-size:]):
                return size
        return 0


def pass_on(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def what_stands_still(log: bytes) -> str:
    """Why the machine's processors take no time."""
    if HUNG.search(log):
        return HANGS
    return STANDS_STILL if UP in log else NOT_UP


def timer_lost(log: bytes) -> bool:
    """Whether the kernel reports a lost timer and a halted processor."""
    return bool(RCU_WAITED.search(log) and IDLE.search(log))


def find_reports(log: str) -> list[str]:
    """The reports in the kernel log, each with the lines that follow it."""
    lines = log.splitlines()
    reports = []
    end = -1
    for number, line in enumerate(lines):
        if number >= end and REPORT.search(line):
            end = number + REPORT_LINES
            report = lines[number:end]
            if STARVED.search(report[0]) and any(map(STARVED_BY.search, report)):
                # Only up to its end; what follows is another report.
                end = number + 1 + next(
                    (n for n, text in enumerate(report) if "end trace" in text), 0
                )
                continue
            reports.append("\n".join(report))
    return reports
