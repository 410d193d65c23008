#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Checks the layers of rust/: prints the graph of dependencies, and violations.

A folder of rust/ is a layer, and so is a file beside them. A file may use its own
layer and those below it. Within a layer there are no cycles, and an item is no more
visible than necessary.

A node of the graph is a file without its suffix: rmp/hook is hook.rs, hook.c and
hook.h. An edge is a path (`crate::`, `super::`), a call of a method of a type with
methods in several files, an #include, or a call between C and Rust. Paths through
the `pub use` of a mod.rs lead to the item's file.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paths import SRC

# From the bottom up. Layers in one row do not use each other.
LAYERS = (
    ("pgtable",),
    ("sys",),
    ("iommu",),
    ("mm", "policy"),
    ("rmp",),
    ("container",),
    ("uapi", "debugfs"),
    ("backend",),
    ("vfio_pgsize", "bindings"),
)
HEIGHT = {name: height for height, row in enumerate(LAYERS) for name in row}
ROOT = "vfio_pgsize"

# Methods that types of the kernel and of Rust also have: they count only on `self`.
COMMON = frozenset(
    ("as_ptr", "clear", "get", "insert", "lock", "map", "remove", "replace", "split", "take")
)

Words = tuple[str, ...]


def layer_of(node: str) -> str:
    return node.split("/", maxsplit=1)[0]


def code_of(text: str) -> str:
    """The text without comments and string contents."""
    wanted = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', re.DOTALL)
    return wanted.sub(lambda found: '""' if found[0].startswith('"') else "", text)


def leaves_of(tree: str, prefix: Words = ()) -> Iterator[Words]:
    """The paths of a use declaration."""
    head, brace, rest = tree.partition("{")
    if not brace:
        words = tree.split(" as ")[0].strip()
        if words:
            yield (*prefix, *(word for word in words.split("::") if word != "self" or not prefix))
        return
    prefix += tuple(word for word in head.strip().split("::") if word)
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")]
    for at, sign in enumerate(f"{inner},"):
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            yield from leaves_of(inner[start:at], prefix)
            start = at + 1


@dataclass
class Source:
    """A Rust file, and its module."""

    node: str
    module: Words
    code: str
    items: set[str] = field(default_factory=set)
    exports: dict[str, Words] = field(default_factory=dict)
    # the types with methods here, and the places of those in the code
    impls: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        kinds = "fn|struct|enum|trait|type|static|const|union"
        before = r"(?:pub(?:\(\w+\))? )?(?:[a-z]+ |unsafe\(uninit\) |extern \"\" )*"
        item = rf"^ *{before}(?:{kinds}) (\w+)"
        self.items = set(re.findall(item, self.code, re.MULTILINE))
        for tree in re.findall(r"^pub(?:\(\w+\))? use ([^;]*);", self.code, re.MULTILINE):
            for path in leaves_of(tree):
                self.exports[path[-1]] = self.absolute(path)
        impl = r"^impl(?:<[^\n{]*?>)? (\w+)(?:<[^{\n]*>)?(?:\s+where[^{]*)? \{.*?^\}"
        for found in re.finditer(impl, self.code, re.MULTILINE | re.DOTALL):
            self.impls.append((found[1], found.start(), found.end()))

    def absolute(self, path: Words) -> Words:
        if path[0] == "crate":
            return path[1:]
        if path[0] == "super":
            return self.module[:-1] + path[1:]
        return self.module + (path[1:] if path[0] == "self" else path)

    def paths(self, children: Iterable[str]) -> Iterator[Words]:
        """The names that this file uses, with their paths."""
        for tree in re.findall(r"^ *use ([^;]*);", self.code, re.MULTILINE):
            for path in leaves_of(tree):
                if path[0] in ("crate", "super", "self"):
                    yield self.absolute(path)
        for words in re.findall(r"(?<![\w:])(?:crate|super)(?:::\w+)+(?![\w:])", self.code):
            yield self.absolute(tuple(words.split("::")))
        for child in children:
            for words in re.findall(rf"(?<![\w:]){child}(?:::\w+)+", self.code):
                yield self.absolute(tuple(words.split("::")))

    def methods(self) -> Iterator[tuple[str, str]]:
        for owner, start, end in self.impls:
            method = r"^    (?:pub\S* )?(?:[a-z]+ )*fn (\w+)"
            for name in re.findall(method, self.code[start:end], re.MULTILINE):
                yield owner, name

    def calls(self) -> Iterator[tuple[str, str]]:
        """The receivers of calls, by the name of their type if known, and the methods."""
        code = self.code.replace(".lock()", " " * len(".lock()"))
        for found in re.finditer(r"(\w*)\s*\.\s*(\w+)\s*(?:::<[^>]*>)?\(", code):
            if found[1] == "self":
                for owner, start, end in self.impls:
                    if start <= found.start() < end:
                        yield owner, found[2]
            elif found[2] not in COMMON:
                yield found[1].title().replace("_", ""), found[2]
        for owner, name in re.findall(r"\b([A-Z]\w*)::([a-z]\w*)", code):
            yield owner, name


class Graph:
    """The files of a folder, and their dependencies."""

    def __init__(self, top: Path) -> None:
        self.edges: dict[str, set[str]] = defaultdict(set)
        self.sources: dict[Words, Source] = {}
        self.c_code: dict[str, str] = defaultdict(str)
        for file in sorted(top.rglob("*.rs")):
            node = str(file.relative_to(top).with_suffix(""))
            module = tuple(word for word in node.split("/") if word not in ("mod", ROOT))
            code = code_of(file.read_text(encoding="utf-8"))
            self.sources[module] = Source(node.removesuffix("/mod"), module, code)
        for file in sorted((*top.rglob("*.c"), *top.rglob("*.h"))):
            # the name in an #include is a string
            text = re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
            if file.suffix == ".h":
                # a declaration in a header is not a call
                text = "\n".join(re.findall(r"^#include.*", text, re.MULTILINE)) + "\n"
            self.c_code[str(file.relative_to(top).with_suffix(""))] += text
        # the host's tests use what other layers use
        tests = sorted((top.parent / "tools/testing/host/src").rglob("*.rs"))
        self.tests = "\n".join(file.read_text(encoding="utf-8") for file in tests)
        self.draw_paths()
        self.draw_methods()
        self.draw_c()
        for node in self.edges:
            self.edges[node].discard(node)

    def add(self, node: str, known: str | None) -> None:
        if known is not None:
            self.edges[node].add(known)

    def place(self, path: Words) -> str | None:
        """The place of what a path names."""
        for end in range(len(path), -1, -1):
            source = self.sources.get(path[:end])
            if source is None:
                continue
            if end == len(path) or path[end] in source.items or path[end] == "*":
                return source.node
            if path[end] in source.exports:
                return self.place(source.exports[path[end]])
            return None
        return None

    def draw_paths(self) -> None:
        for module, source in self.sources.items():
            children = [m[-1] for m in self.sources if m and m[:-1] == module]
            self.edges[source.node] |= set()
            for path in source.paths(children):
                self.add(source.node, self.place(path))

    def draw_methods(self) -> None:
        # name → (layer, type) → node
        methods: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        homes = defaultdict(set)
        for source in self.sources.values():
            for owner, name in source.methods():
                methods[name][layer_of(source.node), owner] = source.node
                homes[layer_of(source.node), owner].add(source.node)
        for source in self.sources.values():
            mine = HEIGHT.get(layer_of(source.node), 0)
            for receiver, name in source.calls():
                owners = {k: v for k, v in methods[name].items() if HEIGHT.get(k[0], 0) <= mine}
                told = [one for one in owners if one[1] == receiver]
                if not told and len(owners) == 1:
                    told = list(owners)
                # of two types with one name, the upper one represents both
                for one in sorted(told, key=lambda one: HEIGHT.get(one[0], 0))[-1:]:
                    if len(homes[one]) > 1:
                        self.add(source.node, owners[one])

    def draw_c(self) -> None:
        name = r"\b(pgsize_\w+)\s*\("
        in_rust = {
            function: source.node
            for source in self.sources.values()
            for function in re.findall(r'extern "" fn (pgsize_\w+)', source.code)
        }
        in_c = {
            function: node
            for node, text in self.c_code.items()
            for function in re.findall(name, text)
            if re.search(rf"^[\w *]+\b{function}\s*\([^;]*?\)\n?\s*\{{", text, re.MULTILINE)
        }
        for source in self.sources.values():
            for function in re.findall(r"\bbindings::(pgsize_\w+)", source.code):
                self.add(source.node, in_c.get(function))
        for node, text in self.c_code.items():
            folder = "" if "/" not in node else layer_of(node) + "/"
            self.edges[node] |= set()
            for header in re.findall(r'^#include "([^"]+)\.h"', text, re.MULTILINE):
                self.add(node, header if header in self.c_code else folder + header)
            for function in re.findall(name, text):
                self.add(node, in_rust.get(function))
                self.add(node, in_c.get(function))

    def upward(self) -> Iterator[str]:
        for node, known in sorted(self.edges.items()):
            mine = layer_of(node)
            if mine not in HEIGHT:
                yield f"{node}: {mine} is no layer: see LAYERS in layers.py"
                continue
            for other in sorted(known):
                if layer_of(other) != mine and HEIGHT.get(layer_of(other), 0) >= HEIGHT[mine]:
                    yield f"{node} knows {other}, which is not below it"

    def cycles(self) -> Iterator[str]:
        """One cycle for each set of files that depend on each other."""
        left = {node: set(known) for node, known in self.edges.items()}
        while left:
            done = {node for node, known in left.items() if not known & left.keys()}
            if not done:
                seen = [min(left)]
                while (following := min(left[seen[-1]] & left.keys())) not in seen:
                    seen.append(following)
                ring = seen[seen.index(following) :]
                first = ring.index(min(ring))
                ring = ring[first:] + ring[:first]
                yield " knows ".join([*ring, ring[0]])
                done = set(ring)
            for node in done:
                del left[node]

    def strangers(self) -> Iterator[str]:
        """Methods that a layer adds to the type of another."""
        for source in self.sources.values():
            mine = [s for s in self.sources.values() if layer_of(s.node) == layer_of(source.node)]
            for owner, _, _ in source.impls:
                if not any(owner in each.items for each in mine):
                    yield f"{source.node}: impl {owner}, which is another layer's: write functions"

    def visible(self) -> Iterator[str]:
        """Items that are too visible: nothing as far away uses their name."""
        words = {s.node: set(re.findall(r"\w+", s.code)) for s in self.sources.values()}
        words["host"] = set(re.findall(r"\w+", code_of(self.tests)))
        # except types, which are as visible as what contains them
        item = re.compile(
            r"^ *(pub\((?:super|crate)\)) (?:(?:const |unsafe |extern \"\" )*fn|static|const) (\w+)"
            r"|^ +(pub\((?:super|crate)\)) (\w+):",
            re.MULTILINE,
        )
        for source in self.sources.values():
            mine = layer_of(source.node)
            for found in item.finditer(source.code):
                how, name = found[1] or found[3], found[2] or found[4]
                users = {node for node in words if node != source.node and name in words[node]}
                if not users:
                    yield f"{source.node}: {name} is {how}, and used in no other file"
                elif how == "pub(crate)" and {layer_of(user) for user in users} == {mine}:
                    yield f"{source.node}: {name} is {how}, and used in no other layer: pub(super)"

    def __str__(self) -> str:
        lines = []
        for row in LAYERS:
            for layer in row:
                for node in sorted(n for n in self.edges if layer_of(n) == layer):
                    known = sorted(self.edges[node], key=lambda other: (layer_of(other) not in row, other))
                    lines.append(f"{node}: {', '.join(known)}" if known else node)
            lines.append("")
        return "\n".join(lines)


def problems(top: Path) -> list[str]:
    graph = Graph(top)
    return [*graph.upward(), *graph.cycles(), *graph.strangers(), *graph.visible()]


def main() -> int:
    """Print the graph and its violations."""
    print(Graph(SRC / "rust"))
    found = problems(SRC / "rust")
    print("\n".join(found), file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
