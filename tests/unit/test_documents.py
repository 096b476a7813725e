"""The project's pages name only what exists: files, modules, classes, functions, commands, options and links."""

from __future__ import annotations

import ast
import builtins
import functools
import itertools
import re
import shlex
import tomllib
from typing import TYPE_CHECKING

import pytest

from nbcontainer import cli
from nbcontainer.commands import containers
from nbcontainer.commands.verbs.debugging import DEBUG
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC
from nbcontainer.notebook import defaults
from nbcontainer.notebook.kernel.specs import commands as kernel_commands
from nbcontainer.notebook.magics import ContainerMagics
from nbcontainer.store import layout
from tests import documents
from tests.benchmarks import chart
from tests.documents import PACKAGE, PROJECT
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.commands.grammar import Command

HAVE_DOCS = (PROJECT / "docs" / "architecture.md").exists()
PAGES = [path for path in documents.documents() if path.name != "CHANGELOG.md" and path.exists()] if HAVE_DOCS else []

OTHERS = {"Raises", "KERNEL", "COMMAND", "IMAGE"}
"""Words in code spans that are not names of this project: placeholders."""

OPTIONS_OF_OTHERS = {"--unshare-all", "--set-up"}

_SUFFIXES = ("py", "md", "toml", "sh", "ipynb", "json", "svg", "png")
_FILE = re.compile(rf"[\w./-]*\w\.(?:{'|'.join(_SUFFIXES)})")
_FOLDER = re.compile(
    r"(?:nbcontainer|tests|docs|notebooks|sandbox|images|containers|notebook|commands|store|oci)/[\w/-]*"
)
_DOTTED = re.compile(r"(?:nbcontainer|tests)(?:\.\w+)+")
_CLASS = re.compile(r"([A-Z][a-z]+(?:[A-Z0-9][a-z]*)*)(?:\.(\w+))?(?:\(\))?")
_FUNCTION = re.compile(r"(\w+)\(\)")
_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]{3,}")
_TEST = re.compile(r"test_\w+")
_IN_FILE = re.compile(r"`(?:([A-Z]\w*)(?:\.\w+)?|(\w+)\(\))`\s+\(`([\w./-]+\.py)`")


@pytest.fixture(autouse=True)
def _needs_the_pages() -> None:
    require("sources", available=HAVE_DOCS, why="the project's pages are not around")


@functools.cache
def files() -> set[str]:
    """All files of the project by their path, and by their path in the package."""
    found = {path for folder in ("nbcontainer", "tests", "docs", "notebooks") for path in (PROJECT / folder).rglob("*")}
    found |= set(PROJECT.glob("*.*")) | set((PROJECT / ".ci").glob("*")) | {PROJECT / "tests" / "run"}
    return {str(path.relative_to(top)) for path in found for top in (PROJECT, PACKAGE) if path.is_relative_to(top)}


@functools.cache
def defined() -> dict[str, set[str]]:
    """The names that the package and its tests define: classes with all their members, functions and constants."""
    found: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in [*PACKAGE.rglob("*.py"), *(PROJECT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(_members(node))
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.setdefault(node.name, set())
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                found |= {name: found.get(name, set()) for name in _targets(node)}
    for name, above in bases.items():
        for base in above:
            found[name] |= found.get(base, set())
    return found


def _members(node: ast.ClassDef) -> set[str]:
    names = {name for child in node.body for name in _targets(child)}
    names |= {child.name for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)}
    own = (child for child in ast.walk(node) if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name))
    return names | {child.attr for child in own if child.value.id == "self"}  # type: ignore[attr-defined]


def _targets(node: ast.AST) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _file_exists(name: str) -> bool:
    return name in files() or ("/" not in name and any(path.endswith(f"/{name}") for path in files()))


def _dotted_exists(name: str) -> bool:
    """Whether there is a module or a package of that dotted name, or a module that has the rest of it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = PROJECT.joinpath(*parts[:length])
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if length == len(parts) and (path.is_dir() or module.exists()):
            return True
        if module.exists():
            first, *rest = parts[length:]
            return first in _names_of(module) and all(member in defined().get(first, ()) for member in rest)
    return False


def _names_of(module: Path) -> set[str]:
    """The names at the top of a module, and those that a package lists in `__all__`."""
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        found |= set(_targets(node))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and "__all__" in _targets(node):
            found |= set(ast.literal_eval(node.value))
    return found


def _class_exists(name: str, member: str | None) -> bool:
    if name in OTHERS or hasattr(builtins, name):
        return True
    return name in defined() and (not member or member in defined()[name])


def missing(span: str) -> str:
    """What a code span names and the project does not have; empty if all is there, or the span is no such name."""
    if re.search(r"\b(?:NAME|HEX|ID)\b", span):
        return ""  # a place in the store
    if _FILE.fullmatch(span):
        return "" if _file_exists(span) or f'{span}"' in _sources() else f"no file {span}"
    if _FOLDER.fullmatch(span):
        return "" if span.rstrip("/") in files() else f"no folder {span}"
    if _DOTTED.fullmatch(span):
        return "" if _dotted_exists(span) else f"no module or name {span}"
    if found := _CLASS.fullmatch(span):
        return "" if _class_exists(found[1], found[2]) else f"no class or member {span}"
    if found := _FUNCTION.fullmatch(span):
        return "" if found[1] in defined() or hasattr(builtins, found[1]) else f"no function {span}"
    if _CONSTANT.fullmatch(span) or _TEST.fullmatch(span):
        return "" if span in defined() or span in OTHERS or span in _sources() else f"no name {span}"
    return missing_command(span)


@functools.cache
def _sources() -> str:
    return "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))


@functools.cache
def grammars() -> dict[str, Command]:
    """The grammar of each verb, as a terminal and a notebook have it."""
    found = {name: verb.command for name, verb in containers.VERBS.items()}
    found |= {f"kernel {name}": command for name, (command, _) in kernel_commands.VERBS.items()}
    found |= {one.command.name: one.command for one in containers.VERBS["volume"].verbs.values()}
    from nbcontainer.notebook.cell_magic.grammars import RUN_LINE

    return found | {
        "run": RUN_LINE,
        "demo": cli._DEMO,
        "use": defaults.USE,
        "exec": PROGRAM_EXEC,
        "debug": DEBUG,
        "": cli._TOP,
    }


def _flags(verb: str) -> set[str]:
    return {flag for option in grammars()[verb].options for flag in option.flags} | {"-h", "--help"}


@functools.cache
def _all_flags() -> set[str]:
    from nbcontainer.notebook.cell_magic.grammars import CELL

    cell = {flag for option in CELL.options for flag in option.flags}
    return set().union(cell, *(_flags(verb) for verb in grammars())) | OPTIONS_OF_OTHERS


def missing_command(span: str) -> str:
    """What a command in a span has that the project's grammar does not: its verb, or an option."""
    words = re.split(r"[\s|]+", span)
    if span.startswith("-"):
        flags = [word.partition("=")[0] for part in span.split("/") for word in part.split()[:1]]
        return "".join(f"no option {flag}" for flag in flags if flag.startswith("-") and flag not in _all_flags())
    if words[0] in ("nbcontainer", "%container") and len(words) > 1:
        return _missing_verb(words[1:])
    if words[0] in ("%%container", "%commit"):
        known = _all_flags() if words[0] == "%%container" else _flags("commit")
        return _missing_options(words[1:], known)
    if words[0] == "python" and words[1:2] == ["-m"]:
        return (
            "" if words[2].split(".")[0] in ("pytest", "venv") or _dotted_exists(words[2]) else f"no module {words[2]}"
        )
    return ""


def _missing_verb(words: list[str]) -> str:
    verb, rest = words[0], words[1:]
    if verb.startswith("-"):
        return _missing_options([verb], _flags(""))
    if rest and (verb == "kernel" or f"{verb} {rest[0]}" in grammars()):
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    if verb.isupper() or verb == "…":
        return ""
    if verb not in grammars():
        return f"no verb {verb}"
    if verb == "run":  # what follows the image is the container's
        rest = list(itertools.takewhile(lambda word: word.startswith("-"), rest))
    return _missing_options(rest, _flags(verb))


def _missing_options(words: list[str], known: set[str]) -> str:
    flags = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    wrong = [flag for flag in flags if flag not in known and not _bundle(flag, known)]
    return f"no option {wrong[0]}" if wrong else ""


def _bundle(flag: str, known: set[str]) -> bool:
    return not flag.startswith("--") and all(f"-{letter}" in known for letter in flag[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_what_is_there(page: Path) -> None:
    """Each file, dotted name, class, function, option and command in a page's code spans exists."""
    if page.name in ("style.md", "glossary.md"):
        # What these two forbid, and examples of errors, are not names.
        text = "\n".join(line for line in page.read_text().splitlines() if not line.startswith("|"))
    else:
        text = page.read_text()
    assert [found for span in documents.spans(text) if (found := missing(span))] == []


def misplaced(text: str) -> list[str]:
    """The classes and functions with a file in parentheses behind them, as in `run()` (`api.py`), that it lacks."""
    pairs = ((found[1] or found[2], found[3]) for found in _IN_FILE.finditer(documents.unfenced(text)))
    return [
        f"no {name} in {file}"
        for name, file in pairs
        if not any(name in _names_of(top / file) for top in (PROJECT, PACKAGE) if (top / file).exists())
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_name_is_in_the_file_that_a_page_gives(page: Path) -> None:
    """The file in parentheses behind a class or a function has it."""
    assert misplaced(page.read_text()) == []


def test_a_name_in_another_file_is_found() -> None:
    """A class, a member and a function that the file does not have are found, so that the test above can fail."""
    text = "`Step` (`sandbox/plan.py`), `Step.ahead` (`sandbox/plan.py`) and `replacing()`\n(`store/locks.py`, below)"
    assert len(misplaced(text)) == 3
    assert misplaced("`Step.ahead` (`sandbox/steps/base.py`), `ahead()` (`sandbox/plan.py`)") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_are_there(page: Path) -> None:
    """Each `nbcontainer` and `%container` command in a page's blocks has a verb and options that exist."""
    text = page.read_text()
    blocks = [*documents.fences(text, "sh"), *documents.fences(text, "ipython")]
    lines = [line for block in blocks for line in block.splitlines()]
    wrong = []
    for line in lines:
        for part in re.split(r"&&|;", line.partition(" #")[0]):
            words = shlex.split(part) if part.strip() and "%%" not in part and "$" not in part else []
            if words and words[0].rpartition("/")[2] == "nbcontainer":
                wrong.append(missing_command(" ".join(["nbcontainer", *words[1:]])))
            elif words and words[0].startswith("%co"):
                wrong.append(missing_command(" ".join(words)))
    assert [found for found in wrong if found] == []


@pytest.mark.parametrize("page", documents.documents(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file of the project, and to a heading in it if it names one."""
    for link in documents.links(page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in documents.anchors(target.read_text()), f"{page.name}: {link}"


@pytest.mark.parametrize(
    "span",
    [
        "sandbox/nowhere.py",
        "sandbox/nowhere/",
        "nbcontainer.sandbox.nowhere",
        "nbcontainer.api.nowhere",
        "NoSuchClass",
        "Launcher.nowhere",
        "nowhere_at_all()",
        "NO_SUCH_CONSTANT",
        "--no-such-option",
        "nbcontainer nowhere",
        "%container rm --nowhere",
        "nbcontainer kernel nowhere",
        "python -m tests.nowhere",
    ],
)
def test_what_is_not_there_is_found(span: str) -> None:
    """Each kind of name that does not exist is found, so that the test above can fail."""
    assert missing(span)


def test_the_architecture_page_names_every_package() -> None:
    """Each package has a paragraph with an invariant and an extension point."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    for package in (path.parent.name for path in PACKAGE.glob("*/__init__.py")):
        paragraph = text.partition(f"**`nbcontainer.{package}`**")[2].partition("\n\n")[0]
        assert "*Invariant*" in paragraph, package
        assert re.search(r"\*Extension\s+point\*", paragraph), package


def test_the_options_page_has_every_verb() -> None:
    """Each verb of the notebook and of the terminal is in docs/options.md."""
    text = (PROJECT / "docs" / "options.md").read_text()
    notebook_alone = {defaults.USE.name, *(containers.VERBS.keys() - containers.TERMINAL_VERBS.keys())}
    of_volume = {name for name in grammars() if name.startswith("volume ")}  # the page has one line for them
    terminal = grammars().keys() - {"", *notebook_alone, *of_volume}
    assert [verb for verb in terminal if f"`nbcontainer {verb}" not in text] == []
    assert [verb for verb in notebook_alone if f"`nbcontainer {verb}" in text] == []
    assert [verb for verb in (*notebook_alone, PROGRAM_EXEC.name) if f"`%container {verb}" not in text] == []
    assert hasattr(ContainerMagics, "container")


def test_the_options_page_has_every_trait() -> None:
    """Each trait of the magics is in the table of docs/options.md, with its default."""
    table = (PROJECT / "docs" / "options.md").read_text().partition("| trait |")[2].partition("\n\n")[0]
    rows = [[re.findall(r"`([^`]*)`", part) for part in line.split(" | ")[:2]] for line in table.splitlines()[2:]]
    found = {name: ast.literal_eval(value) for names, values in rows for name, value in zip(names, values, strict=True)}
    magics = ContainerMagics()
    assert found == {name: getattr(magics, name) for name in ContainerMagics.class_traits(config=True)}


def test_the_chart_is_that_of_the_table() -> None:
    """The files that the README shows are what the script draws from docs/benchmarks.md."""
    for name, theme in chart.THEMES.items():
        assert (chart.IMAGES / f"speed-{name}.svg").read_text() == chart.draw(theme)


def test_pictures_are_small() -> None:
    """No picture in docs/images has more than 150 kB."""
    assert [path.name for path in chart.IMAGES.iterdir() if path.stat().st_size > 150_000] == []


def test_the_architecture_lists_what_is_in_the_store() -> None:
    """Its listing has each name that the module about the store on disk has."""
    listing = (
        (PROJECT / "docs" / "architecture.md").read_text().partition("## The store on disk")[2].partition("## ")[0]
    )
    assert layout.__doc__ is not None
    lines = [line for line in layout.__doc__.splitlines() if line.startswith("    ")]
    names = {
        word.partition("/")[0].rstrip(",") for line in lines for word in re.split(r" {2,}", line.strip())[0].split()
    }
    assert {name for name in names - {"->", ".."} if name not in listing} == set()


def test_the_architecture_lists_the_threads() -> None:
    """Its table has the name of each thread that the package starts."""
    table = (PROJECT / "docs" / "architecture.md").read_text().partition("## Threads")[2].partition("## ")[0]
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r'(?:\bname=|thread_name_prefix=|THREAD = )"(nbcontainer-[a-z-]+)"', source))
    assert len(names) > 10
    of_jobs = re.findall(r'\brun_jobs\([^()]*\bname="([a-z-]+)"', source)
    assert len(of_jobs) > 2
    names |= {f"nbcontainer-{name}" for name in of_jobs}
    assert {name for name in names if f"`{name}`" not in table} == set()


def test_the_architecture_draws_the_layers_of_packages() -> None:
    """Its diagram has the layers of the contract, from the top."""
    page = (PROJECT / "docs" / "architecture.md").read_text().partition("## Packages")[2]
    drawn = [re.split(r" {2,}", line)[0].split(", ") for line in page.split("```")[1].splitlines()[1:]]
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["name"] == "Packages import downwards")
    wanted = [[name.removeprefix("nbcontainer.") for name in layer.split(" | ")] for layer in layers]
    assert drawn == [[name for name in layer if name != "_version"] for layer in wanted]
