"""The directive `generated`: parts of the reference that are made from the program each time the site is built.

`{generated} steps` is a table of all steps, `{generated} steps-zh` the same in Chinese, `{generated} verbs` the help
text of each verb, and `{generated} errors` the documentation of each error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective

import nbcontainer.errors
import nbcontainer.sandbox.plan  # it imports all steps
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.run import RUN
from nbcontainer.commands.verbs.debugging import DEBUG
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC
from nbcontainer.notebook.defaults import USE
from nbcontainer.notebook.kernel.specs.commands import VERBS as KERNEL_VERBS
from nbcontainer.sandbox.steps.base import Language, Step, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docutils.nodes import Node

_HEADINGS = {
    Language.ENGLISH: ("step", "does", "purpose", "without it, an attacker in the container …"),
    Language.CHINESE: ("步骤", "做什么", "目的", "没有这一步，容器里的攻击者……"),
}


def words_of(step: type[Step], language: Language) -> Words:
    """Return the words of a class of step, with the names of its fields in place of their values."""
    if language == Language.ENGLISH:
        return Words(step.phrase, step.why, step.risk)
    return Words(*step.chinese)


def by_topic() -> dict[str, list[type[Step]]]:
    """Return all steps of the package by their module, in the order in which the modules have them."""
    topics: dict[str, list[type[Step]]] = {}
    for step in Step.by_name.values():
        if step.__module__.startswith("nbcontainer."):
            topics.setdefault(step.__module__, []).append(step)
    return dict(sorted(topics.items()))


def steps(language: Language) -> str:
    """Return the steps as Markdown: a section for each module, with a table."""
    return "\n".join(line for module, classes in by_topic().items() for line in _topic(module, classes, language))


def _topic(module: str, classes: list[type[Step]], language: Language) -> Iterator[str]:
    name = module.rpartition(".")[2].replace("_", " ")
    first = (sys.modules[module].__doc__ or "").partition("\n")[0]
    headings = _HEADINGS[language]
    yield f"\n## {name}\n"
    if language == Language.ENGLISH:
        yield f"{first}\n"
    yield f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}"
    for step in classes:
        cells = (f"`{step.__name__}`", *map(_cell, words_of(step, language)))
        yield f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def verbs() -> str:
    """Return the help texts of all verbs as Markdown: a section for each verb."""
    commands = [("nbcontainer " if verb.in_terminal else "%container ", verb.command) for verb in VERBS.values()]
    commands += [("nbcontainer ", command) for command in (RUN, PROGRAM_EXEC, DEBUG)]
    commands += [("%container ", USE)]
    commands += [("nbcontainer kernel ", command) for command, _ in KERNEL_VERBS.values()]
    sections = ((prefix.partition(" ")[2] + command.name, command.describe(prefix)) for prefix, command in commands)
    return "\n".join(f"## {name}\n\n```text\n{help_text}\n```\n" for name, help_text in sorted(sections))


def errors() -> str:
    """Return the public errors as Markdown with directives of autodoc, in the order in which the module has them."""
    public = (name for name in vars(nbcontainer.errors) if name in nbcontainer.__all__ and name != "Outcome")
    directives = "\n".join(f".. autoexception:: {name}\n   :members:\n" for name in public)
    return f"```{{eval-rst}}\n.. currentmodule:: nbcontainer\n{directives}```\n"


PARTS: dict[str, Callable[[], str]] = {
    "steps": lambda: steps(Language.ENGLISH),
    "steps-zh": lambda: steps(Language.CHINESE),
    "verbs": verbs,
    "errors": errors,
}


class Generated(SphinxDirective):
    """Inserts a part of the reference."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the nodes of the part that the argument names."""
        if self.arguments[0] not in PARTS:
            raise self.error(f"unknown part {self.arguments[0]!r}; choose one of {', '.join(PARTS)}")
        return self.parse_text_to_nodes(PARTS[self.arguments[0]](), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
