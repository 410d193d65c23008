# SPDX-License-Identifier: GPL-2.0
"""Tests of doc_names.py, and of the code that README.md shows."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from doc_names import (
    Parameter,
    Tree,
    broken_links,
    parameters,
    read_allowed,
    unknown_names,
    untested_calls,
    wrong_parameters,
)
from paths import SRC

FILES = {
    "Makefile": "check:\n\techo $(ONLY)\n",
    "rust/map.rs": "impl State {\n    pub(crate) fn map(&mut self) {}\n}\n// map_run() is no more\n",
    "rust/sys/parameters.c": (
        "static bool serve;\nmodule_param(serve, bool, 0444);\n"
        "static unsigned int limit = U16_MAX;\nmodule_param_cb(limit, &ops, &limit, 0644);\n"
    ),
    "rust/hook.h": "static inline bool wait_more(struct wait *wait)\n{\n}\n",
    "include/uapi/linux/vfio_pgsize.h": "#define VFIO_PGSIZE_ALL\t1\n# define _H\n",
    "Documentation/testing.rst": "``VFIO_PGSIZE_ALL``  ``wait_more``\n",
    "README.md": "| `serve` | N | at load | x |\n| `limit` | 65535 | any time | x |\n",
    "Documentation/admin-guide.rst": "``serve`` (N, at load)\n``limit`` (65535, any time)\n",
}


class Names(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)

    def tree(self, allowed: str = "", **changed: str) -> Tree:
        """The tree of FILES with, for instance, design="..." in place of its page."""
        files = dict(FILES)
        for stem, text in changed.items():
            name = "README.md" if stem == "readme" else f"Documentation/{stem}.rst"
            files[name] = text if stem != "readme" else files[name] + text
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")
        return Tree(self.root, [self.root / name for name in files], None, read_allowed(allowed))

    def unknown(self, text: str, allowed: str = "") -> list[str]:
        return unknown_names(self.tree(allowed, design=text))

    def test_what_is_there_is_no_complaint(self) -> None:
        for text in (
            "``State::map``, ``map()``, ``map.rs``, ``rust/map.rs: State::map``, ``rust/*.rs``",
            "``make check ONLY='x y'``; ``serve=1``; ``wait_more()``",
            "::\n\n    State::map   maps\n    make check\n\nProse about map_run goes on.\n",
        ):
            self.assertEqual(self.unknown(text), [], text)

    def test_what_is_not_there_is_one(self) -> None:
        for text, name in (
            ("``map_run``", "map_run"),  # a comment with the name does not count
            ("``map_run()``", "map_run"),
            ("``State::unmap``", "State::unmap"),
            ("``Domain::map``", "Domain::map"),
            ("``rust/pin.rs``", "rust/pin.rs"),
            ("``rust/map.rs: map_run``", "rust/map.rs: map_run"),
            ("``make bench``", "make bench"),
            ("``make check KIND=1``", "make KIND="),
            ("``no_such=1``", "no_such"),
            ("a block::\n\n    map_run   maps\n\nends", "map_run"),
        ):
            found = self.unknown(text)
            self.assertEqual([line.split(": ", 1)[1].split(" is neither")[0] for line in found], [name])
            self.assertTrue(found[0].startswith("Documentation/design.rst:"))

    def test_markdown_has_single_backticks(self) -> None:
        self.assertEqual(len(unknown_names(self.tree(readme="`nothing_of_it`\n"))), 1)
        self.assertEqual(len(unknown_names(self.tree(readme="```sh\nmake nothing\n```\n"))), 1)

    def test_an_allowed_name_is_none_and_has_to_be_of_use(self) -> None:
        self.assertEqual(self.unknown("``of_others``", "# QEMU\nof_others\n"), [])
        self.assertEqual(len(self.unknown("``map()``", "of_others\n")), 1)

    def test_links(self) -> None:
        good = "`there <admin-guide.rst>`_, Documentation/admin-guide.rst, `web <https://a.b/c>`_"
        self.assertEqual(broken_links(self.tree(design=good)), [])
        self.assertEqual(len(broken_links(self.tree(design="`gone <guide.rst>`_"))), 1)
        self.assertEqual(len(broken_links(self.tree(design="see Documentation/guide.rst"))), 1)
        self.assertEqual(len(broken_links(self.tree(readme="[gone](doc/guide.rst)"))), 1)
        self.assertEqual(broken_links(self.tree(readme="# A b\n[here](#a-b)")), [])
        self.assertEqual(len(broken_links(self.tree(readme="# A b\n[gone](#a-c)"))), 1)

    def test_parameters(self) -> None:
        self.assertEqual(
            parameters(FILES["rust/sys/parameters.c"]),
            {"serve": Parameter("N", "at load"), "limit": Parameter("65535", "any time")},
        )
        self.assertEqual(wrong_parameters(self.tree()), [])
        table = {"admin-guide": "``serve`` (N, any time)\n``limit`` (65535, any time)\n"}
        self.assertEqual(len(wrong_parameters(self.tree(**table))), 1)
        table = {"admin-guide": "``serve`` (N, at load)\n"}
        self.assertEqual(len(wrong_parameters(self.tree(**table))), 1)
        extra = "| `other` | N | at load | x |\n"
        self.assertEqual(len(wrong_parameters(self.tree(readme=extra))), 1)

    def test_calls(self) -> None:
        self.assertEqual(untested_calls(self.tree()), [])
        for text in ("", "``VFIO_PGSIZE_AL``  host\n", "``VFIO_PGSIZE_ALL``\n"):
            self.assertEqual(len(untested_calls(self.tree(testing=text))), 1, text)


# The environment of README.md's C code: the calls succeed, with a private page among the runs.
HARNESS = """
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
%s
static int ioctl(int fd, unsigned long call, ...)
{
	va_list list;
	struct vfio_pgsize_query *query;
	struct vfio_pgsize_run *runs;

	if (call != VFIO_PGSIZE_QUERY)
		return 0;
	va_start(list, call);
	query = va_arg(list, struct vfio_pgsize_query *);
	va_end(list);
	if (query->nr < 2)
		return -1;
	runs = (void *)(uintptr_t)query->runs;
	runs[0] = (struct vfio_pgsize_run){ .size = 1 << 20, .flags = VFIO_PGSIZE_RUN_PRIVATE };
	runs[1] = (struct vfio_pgsize_run){ .iova = 1 << 20, .size = 1 << 20, .pgsize = 4096 };
	query->nr = 2;
	query->size -= query->size / 2;
	if (query->size == 1)
		query->size = 0;
	return 0;
}
int main(void)
{
	int container = 0, group = 0, map = 0;
%s
	return 0;
}
"""


class Readme(unittest.TestCase):
    def test_its_code_runs_also_where_pages_are_private(self) -> None:
        shown = re.search(r"```c\n(.*?)```", (SRC / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        assert shown
        lines = shown[1].splitlines()
        includes = [line for line in lines if line.startswith("#")]
        body = [line for line in lines if not line.startswith("#")]
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "readme.c"
            source.write_text(HARNESS % ("\n".join(includes), "\n".join(body)), encoding="utf-8")
            program = Path(scratch) / "readme"
            command = ["gcc", "-std=gnu11", "-Wall", "-Werror", f"-I{SRC}/include/uapi"]
            subprocess.run([*command, str(source), "-o", str(program)], check=True)
            run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, "it was killed" if run.returncode < 0 else run.stderr)
        self.assertIn("0: 0x100000 bytes are private", run.stdout)
        self.assertIn("0x100000: 256 leaves of 0x1000", run.stdout)


if __name__ == "__main__":
    unittest.main()
