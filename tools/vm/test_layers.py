# SPDX-License-Identifier: GPL-2.0
"""Tests of layers.py: it finds each kind of edge and each violation."""

import tempfile
import unittest
from pathlib import Path

from layers import Graph, problems

# A tree that follows all rules.
GOOD = {
    "vfio_pgsize.rs": "mod rmp;\nmod sys;\nfn init() {\n    rmp::watch();\n}\n",
    "sys/mod.rs": "pub(crate) mod bindings;\npub(crate) mod num;\n",
    "sys/bindings.rs": "",
    "sys/num.rs": "pub(crate) fn to_u64() {}\n",
    "rmp/mod.rs": (
        "mod lock;\nmod tree;\nmod watch;\n"
        "pub(crate) use self::watch::{\n    watch,\n    Watch, //\n};\n"
    ),
    "rmp/lock.rs": (
        "use crate::sys::bindings;\n"
        "pub(super) struct Guard;\n"
        "impl Guard {\n    pub(super) fn lock() {\n        bindings::pgsize_lock();\n    }\n}\n"
    ),
    "rmp/tree.rs": (
        "use super::lock::Guard;\n"
        "impl Guard {\n    pub(super) fn each_over(&mut self) {}\n}\n"
    ),
    "rmp/watch.rs": (
        "use super::lock::Guard;\nuse crate::sys::num::to_u64;\n"
        "pub(crate) struct Watch;\n"
        "pub(crate) fn watch(guard: &mut Guard) {\n    to_u64();\n    guard.each_over();\n}\n"
        'extern "C" fn pgsize_begin() {}\n'
    ),
    "rmp/places.c": '#include "places.h"\nvoid pgsize_lock(void)\n{\n}\n',
    "rmp/places.h": "void pgsize_lock(void);\n",
    "rmp/hook.c": '#include "places.h"\nstatic void entry(void)\n{\n\tpgsize_begin();\n}\n',
}


class Layers(unittest.TestCase):
    def setUp(self) -> None:
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in GOOD.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        file = self.top / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def add(self, name: str, text: str) -> None:
        self.write(name, GOOD[name] + text)

    def assert_problem(self, *words: str) -> None:
        found = problems(self.top)
        self.assertTrue(any(all(word in line for word in words) for line in found), found)

    def test_a_good_tree(self) -> None:
        self.assertEqual(problems(self.top), [])

    def test_every_kind_of_edge_is_seen(self) -> None:
        edges = Graph(self.top).edges
        self.assertEqual(edges["vfio_pgsize"], {"rmp/watch"})
        self.assertEqual(edges["rmp/lock"], {"rmp/places", "sys/bindings"})
        self.assertEqual(edges["rmp/watch"], {"rmp/lock", "rmp/tree", "sys/num"})
        self.assertEqual(edges["rmp/hook"], {"rmp/places", "rmp/watch"})

    def test_a_path_upward(self) -> None:
        self.add("sys/num.rs", "fn up() {\n    crate::rmp::watch();\n}\n")
        self.assert_problem("sys/num knows rmp/watch", "not below")

    def test_an_import_upward_among_others(self) -> None:
        self.add("sys/num.rs", "use crate::{\n    rmp::{\n        Watch, //\n    }, //\n};\n")
        self.assert_problem("sys/num knows rmp/watch", "not below")

    def test_what_a_comment_says_is_no_edge(self) -> None:
        self.add("sys/num.rs", "/// See [`Watch`](crate::rmp::Watch).\nfn up() {}\n")
        self.assertEqual(problems(self.top), [])

    def test_beside_one_another(self) -> None:
        self.write("mm/mod.rs", "fn pin() {\n    crate::policy::at();\n}\n")
        self.write("policy.rs", "pub(crate) fn at() {}\n")
        self.assert_problem("mm knows policy", "not below")

    def test_a_cycle_of_imports(self) -> None:
        self.add("rmp/lock.rs", "use super::watch::Watch;\n")
        self.assert_problem("rmp/lock knows rmp/watch knows rmp/lock")

    def test_a_cycle_by_a_method(self) -> None:
        self.add("rmp/tree.rs", "use super::watch::Watch;\n")
        self.assert_problem("rmp/tree knows rmp/watch knows rmp/tree")

    def test_a_cycle_between_c_and_rust(self) -> None:
        self.write("rmp/places.c", "void pgsize_lock(void)\n{\n\tpgsize_begin();\n}\n")
        self.assert_problem("rmp/lock knows rmp/places knows rmp/watch knows rmp/lock")

    def test_an_include_upward(self) -> None:
        self.write("sys/helpers.c", '#include "rmp/places.h"\n')
        self.assert_problem("sys/helpers knows rmp/places", "not below")

    def test_methods_for_another_layers_type(self) -> None:
        self.write("backend.rs", "use crate::rmp::Watch;\nimpl Watch {\n    fn show(&self) {}\n}\n")
        self.assert_problem("backend: impl Watch")

    def test_an_item_that_only_its_layer_uses(self) -> None:
        self.write("rmp/tree.rs", GOOD["rmp/tree.rs"].replace("super", "crate"))
        self.assert_problem("rmp/tree: each_over is pub(crate)", "no other layer")

    def test_an_item_that_only_its_file_uses(self) -> None:
        self.add("rmp/tree.rs", "pub(super) fn alone() {}\n")
        self.assert_problem("rmp/tree: alone is pub(super)", "no other file")

    def test_a_folder_that_is_no_layer(self) -> None:
        self.write("misc/mod.rs", "")
        self.assert_problem("misc is no layer")


if __name__ == "__main__":
    unittest.main()
