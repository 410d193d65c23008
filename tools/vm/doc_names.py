# SPDX-License-Identifier: GPL-2.0
"""Checks that the names in the documentation exist.

Looks at names in backticks and in literal blocks of README.md, other *.md and Documentation/:
files, make targets and variables, module parameters, functions, types, fields. Each must exist
in this tree or in the kernel source. doc_names.allow lists names of other projects. Links must
resolve, the tables of the module's parameters must match rust/sys/parameters.c, and the table of
calls must cover the UAPI header.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PAGES = ("*.md", "Documentation/*.rst")

# Where to look for the kernel's names.
KERNEL = (
    "Documentation/admin-guide",
    "arch/x86",
    "drivers/crypto/ccp",
    "drivers/iommu",
    "drivers/vfio",
    "fs",
    "include",
    "kernel",
    "lib",
    "mm",
    "rust",
    "scripts",
    "tools/testing/selftests",
    "virt",
)

FILE = re.compile(r"[\w.*{},/-]+\.(?:rst|md|rs|c|h|py|sh|toml|list|config|mak|mk|patch)\b")
WORD = re.compile(r"[A-Za-z_]\w*")
CALL = re.compile(r"((?:\w+::)*\w+)\(\)")
PATH = re.compile(r"\w+(?:::\w+)+")
# What defines a name: keywords of Rust and Python, and structures of C; macros of C; functions of
# C, which begin a line; functions of the shell; variants; fields.
DEFINITIONS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"\b(?:fn|def|class|struct|enum|trait|const|static|mod|type|macro_rules!)\s+(\w+)",
        r"^\s*#\s*define\s+(\w+)",
        r"^(?!return\b|if\b)[A-Za-z_][\w \t*]*?\b(\w+)\([^;]*$",
        r"^(\w+)\(\) \{",
        r"^\s+(\w+)(?:\(.*\))?,",
        r"^\s+(?:pub(?:\(\w+\))? )?(\w+): ",
    )
)
OWNER = re.compile(r"\b(?:impl|struct|enum|trait)\b([^;{]*)[;{]")
# In literal blocks only words that are not prose.
CODE_WORD = re.compile(r"\b[A-Za-z]\w*_\w+\b")
# Directories of the virtual machine and of the build root.
RUNTIME = ("/sys", "/dev", "/proc", "/lib/", "/host", "/tests", "/samples", "/src", "/cache", "~/")


@dataclass(frozen=True)
class Literal:
    """Text in backticks, or a line of a literal block."""

    page: str
    line: int
    text: str
    block: bool = False


@dataclass
class Tree:
    """The checkout: its files, and the words of all files except the pages."""

    root: Path
    files: list[Path]
    kernel: Path | None = None
    allowed: set[str] = field(default_factory=set)
    code: dict[str, str] = field(init=False)  # text by name, without comments
    names: list[str] = field(init=False)
    words: set[str] = field(init=False)
    defined: dict[str, list[str]] = field(init=False)  # the files that define a name
    owners: dict[str, set[str]] = field(init=False)  # the modules and types of a file
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.names = [str(file.relative_to(self.root)) for file in self.files]
        self.code = {}
        self.words = set()
        self.defined = {}
        self.owners = {}
        for file, name in zip(self.files, self.names):
            self.words.update(WORD.findall(name))
            if is_page(name) or "doc_names" in name:
                continue
            text = without_comments(name, file.read_text(encoding="utf-8", errors="replace"))
            self.code[name] = text
            self.words.update(WORD.findall(text))
            for found in {found for kind in DEFINITIONS for found in kind.findall(text)}:
                self.defined.setdefault(found, []).append(name)
            self.owners[name] = {*WORD.findall(name), *WORD.findall(" ".join(OWNER.findall(text)))}

    def pages(self) -> Iterator[tuple[str, str]]:
        for file in self.files:
            name = str(file.relative_to(self.root))
            if is_page(name):
                yield name, file.read_text(encoding="utf-8")

    def allows(self, name: str) -> bool:
        if name in self.allowed:
            self.used.add(name)
            return True
        return False

    def find(self, name: str) -> list[str]:
        """Files of that name: a path, or the end of one."""
        pattern = re.sub(r"\\\{(.*?)\\\}", lambda m: f"(?:{m[1].replace(',', '|')})", re.escape(name))
        pattern = pattern.replace(r"\*", "[^/]*")
        return [file for file in self.names if re.search(f"(?:^|/){pattern}(?:$|/)", file)]

    def defines(self, path: str) -> bool:
        """Whether that module or type defines a function or the like of that name."""
        *owners, name = path.split("::")

        return any(
            not owners or owners[-1] in self.owners[file] for file in self.defined.get(name, ())
        )


def is_page(name: str) -> bool:
    return any(Path(name).match(pattern) for pattern in PAGES) and name.count("/") < 2


def without_comments(name: str, text: str) -> str:
    """C and Rust: names in comments do not count. MODULE_PARM_DESC and the like stay."""
    if not name.endswith((".rs", ".c", ".h")):
        return text
    if "/uapi/" in name:
        return text
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def literals(page: str, text: str) -> Iterator[Literal]:
    """All text of a page in backticks or in literal blocks."""
    lines = text.split("\n")
    prose = list(lines)
    fence = block = None
    rst = page.endswith(".rst")
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if not rst and line.startswith("```"):
            fence = None if fence else number
            prose[number] = ""
            continue
        if block is not None and line.strip() and indent <= block:
            block = None
        opens = rst and block is None and line.rstrip().endswith("::") and ".. " not in line
        if fence is not None or block is not None or (not rst and line.startswith("    ")):
            prose[number] = ""
            if line.strip():
                yield Literal(page, number + 1, line.strip(), block=True)
        elif opens:
            block = indent
    quote = "``" if rst else "`"
    for found in re.finditer(rf"{quote}([^`]+){quote}", "\n".join(prose)):
        number = text_line(prose, found.start())
        # A table may wrap a name at the column's edge.
        yield Literal(page, number, re.sub(r"[\s|]*\n[\s|]*", " ", found[1]))


def text_line(lines: list[str], offset: int) -> int:
    return "\n".join(lines)[:offset].count("\n") + 1


def make_names(tree: Tree, command: str) -> Iterator[str]:
    """Targets and variables of a make command that the Makefile lacks."""
    makefile = tree.code.get("Makefile", "")
    targets = set(re.findall(r"^([\w-]+):(?!=)", makefile, re.MULTILINE))
    command = command.split("#")[0].split("\"")[0]
    for word in re.sub(r"='[^']*'?", "=", command).split()[1:]:
        variable, equals, _ = word.partition("=")
        if equals and variable.isupper():
            if not re.search(rf"\b{variable}\b", makefile):
                yield f"make {variable}="
        elif re.fullmatch(r"[a-z][\w-]*", word):
            if word not in targets:
                yield f"make {word}"
        else:
            return


def names_of(tree: Tree, literal: Literal) -> Iterator[str]:
    """Names of a literal that are nowhere in the tree; functions that are not defined."""
    text = literal.text
    for command in re.findall(r"(?:^|\s)(make(?: [^\s;|]+)+)", text):
        yield from make_names(tree, command)
    if text.startswith("make "):
        return
    if text.startswith(RUNTIME) or re.search(r"[<>…]|^[a-z]+://", text):
        return
    in_file = re.fullmatch(rf"({FILE.pattern}):\s+([\w:, ]+)", text)
    if in_file:
        yield from names_in_file(tree, in_file[1], re.split(r",\s*", in_file[2]))
        return
    for file in FILE.findall(text):
        runtime = re.search(rf"(?:^|[\s=])/[\w/]*{re.escape(file.lstrip('/'))}", text)
        if not runtime and not tree.find(file):
            yield file
    rest = FILE.sub(" ", text)
    for path in {*CALL.findall(rest), *PATH.findall(rest)}:
        if not tree.defines(path):
            yield path
    rest = PATH.sub(" ", CALL.sub(" ", rest))
    for word in (CODE_WORD if literal.block else WORD).findall(rest):
        if word not in tree.words:
            yield word


def names_in_file(tree: Tree, file: str, names: list[str]) -> Iterator[str]:
    """`file: name, name`: names that are not in that file."""
    texts = [tree.code[found] for found in tree.find(file) if found in tree.code]
    if not texts and tree.kernel:
        texts = [found.read_text(errors="replace") for found in kernel_files(tree.kernel, file)]
    if not texts:
        yield file
    for name in names if texts else ():
        words = WORD.findall(name)
        if not any(all(re.search(rf"\b{word}\b", text) for word in words) for text in texts):
            yield f"{file}: {name}"


@cache
def kernel_index(kernel: Path) -> dict[str, list[str]]:
    """The kernel's files, by their last path component."""
    found = subprocess.run(
        ["find", *KERNEL, "-type", "f"], capture_output=True, text=True, check=False, cwd=kernel
    )
    index: dict[str, list[str]] = {}
    for file in found.stdout.splitlines():
        index.setdefault(file.rpartition("/")[2], []).append(file)
    return index


def kernel_files(kernel: Path, name: str) -> list[Path]:
    if (kernel / name.strip("/")).is_file():
        return [kernel / name.strip("/")]
    found = kernel_index(kernel).get(name.rpartition("/")[2], [])
    return [kernel / file for file in found if f"/{file}".endswith(f"/{name}")]


def kernel_has(kernel: Path, names: set[str]) -> set[str]:
    """Those of these names that the kernel source has as words or as files."""
    files = {name for name in names if FILE.fullmatch(name) and kernel_files(kernel, name)}
    words = {name for name in names - files if WORD.fullmatch(name)}
    if not words:
        return files
    places = [place for place in KERNEL if (kernel / place).exists()]
    command = ["grep", "-rhowIF", "-f", "-", *places]
    found = subprocess.run(
        command, input="\n".join(words), capture_output=True, text=True, check=False, cwd=kernel
    )
    return files | set(found.stdout.split())


def unknown_names(tree: Tree) -> list[str]:
    missing: dict[str, Literal] = {}
    for page, text in tree.pages():
        for literal in literals(page, text):
            for name in names_of(tree, literal):
                if not tree.allows(name):
                    missing.setdefault(name, literal)
    known = kernel_has(tree.kernel, set(missing)) if tree.kernel else set()
    bad = [
        f"{literal.page}:{literal.line}: {name} is neither here nor in the kernel"
        for name, literal in missing.items()
        if name not in known
    ]
    bad += [
        f"doc_names.allow: {name} is named nowhere, or is there: take it out"
        for name in sorted(tree.allowed - tree.used)
    ]
    return bad


def read_allowed(text: str) -> set[str]:
    """A name a line; lines that begin with # name the project of those below."""
    return {line for line in text.splitlines() if line and not line.startswith("#")}


# --- links ----------------------------------------------------------------------


def anchors(name: str, text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and docutils make them."""
    if name.endswith(".md"):
        headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    headings = re.findall(r"^(\S.*)\n(?:=+|-+|~+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") for heading in headings}


def broken_links(tree: Tree) -> list[str]:
    bad = []
    texts = dict(tree.pages())
    for page, text in texts.items():
        links = re.findall(r"\]\(([^)\s]+)\)" if page.endswith(".md") else r"<([^<>\s]+)>`_", text)
        for link in links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            place = (tree.root / page).parent / target if target else tree.root / page
            name = str(place.resolve().relative_to(tree.root.resolve()))
            if not place.exists():
                bad.append(f"{page}: the link to {link} leads nowhere")
            elif anchor and name in texts and anchor not in anchors(name, texts[name]):
                bad.append(f"{page}: {target or page} has no heading #{anchor}")
    for name, text in {**tree.code, **texts}.items():
        for document in set(re.findall(r"\bDocumentation/[\w/-]+\.rst\b", text)):
            here = (tree.root / document).exists()
            if not here and not (tree.kernel and (tree.kernel / document).exists()):
                bad.append(f"{name}: there is no {document}")
    return bad


# --- parameters -----------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    default: str
    when: str


def parameters(source: str) -> dict[str, Parameter]:
    """The module's parameters, from their definition in C."""
    found = {}
    for name, mode in re.findall(r"^module_param(?:_cb)?\((\w+), .*?(0\d+)\);", source, re.MULTILINE):
        value = re.search(rf"^static (bool|[\w ]+) {name}(?: = (\w+))?;", source, re.MULTILINE)
        if not value:
            continue
        words = {"U16_MAX": "65535", "true": "Y", "false": "N", "VFIO_PGSIZE_ALL": "all"}
        default = words.get(value[2], value[2])
        default = default or ("N" if value[1] == "bool" else "0")
        found[name] = Parameter(default, "any time" if int(mode, 8) & 0o200 else "at load")
    return found


def wrong_parameters(tree: Tree) -> list[str]:
    real = parameters((tree.root / "rust/sys/parameters.c").read_text(encoding="utf-8"))
    texts = dict(tree.pages())
    readme = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w ]+) \|", texts["README.md"], re.MULTILINE)
    guide = re.findall(
        r"^``(\w+)`` \((\w+), ([\w ]+)\)$", texts["Documentation/admin-guide.rst"], re.MULTILINE
    )
    bad = []
    for page, rows in (("README.md", readme), ("Documentation/admin-guide.rst", guide)):
        told = {name: Parameter(default, when) for name, default, when in rows}
        bad += [
            f"{page}: of {name} it says {told.get(name)}; it is {real.get(name)}"
            for name in sorted({*real, *told})
            if told.get(name) != real.get(name)
        ]
    return bad


# --- the table of calls ---------------------------------------------------------


def untested_calls(tree: Tree) -> list[str]:
    """Names of the UAPI header without a row, or without a test, in the table of calls."""
    header = (tree.root / "include/uapi/linux/vfio_pgsize.h").read_text(encoding="utf-8")
    names = re.findall(r"^#define[ \t]+(VFIO_PGSIZE_\w+)[ \t]", header, re.MULTILINE)
    page = dict(tree.pages())["Documentation/testing.rst"]
    rows = set(re.findall(r"^``(VFIO_\w+)`` +(?:``\w|\w)", page, re.MULTILINE))
    return [
        f"Documentation/testing.rst: the table of calls does not say what tests {name}"
        for name in names
        if name not in rows
    ]
