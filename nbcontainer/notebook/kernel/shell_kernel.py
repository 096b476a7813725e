"""The kernel: Jupyter's messages in terms of one shell (jupyter-client.readthedocs.io, "Messaging in Jupyter")."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipykernel.kernelbase import Kernel
from traitlets import Bool, Float, Int, Unicode

from nbcontainer._version import __version__
from nbcontainer.commands.failing_line import failing_line
from nbcontainer.commands.grammar import Command, Words, parse
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.output import OUTPUT_LIMIT
from nbcontainer.commands.run import request_of
from nbcontainer.containers.engine import default_engine
from nbcontainer.containers.live.cell_watch import CellEnd
from nbcontainer.containers.live.session import ShellSession
from nbcontainer.errors import CellFailed, NbcontainerError, UsageError
from nbcontainer.linux.procfs import unreached
from nbcontainer.notebook.cell_outputs import failure
from nbcontainer.notebook.display.boxes import hint_box
from nbcontainer.notebook.hints import Hints
from nbcontainer.notebook.kernel.history import History
from nbcontainer.notebook.kernel.language.bang import without_bangs
from nbcontainer.notebook.kernel.language.completeness import completeness
from nbcontainer.notebook.kernel.language.completion import complete
from nbcontainer.notebook.kernel.language.inspection import inspect
from nbcontainer.notebook.kernel.magics import first_magics, magic_help, run_magic
from nbcontainer.notebook.kernel.messages import FrontendMessages, ProgressDisplay
from nbcontainer.notebook.kernel.output import Outputs
from nbcontainer.notebook.notebook_directory import with_notebooks
from nbcontainer.notebook.prompts.input_requests import InputRequests
from nbcontainer.outcome import Reason
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

RUN_WORDS = Command(
    "kernel",
    "[IMAGE]",
    "Runs a notebook's cells in one container of IMAGE, or in the one named by --name.",
    options_without("rm", "here", "explain", "untrusted", "cache"),
    most=1,
)
"""The arguments in `ContainerKernel.run`."""

_QUESTION = re.compile(r"\s*(?:\?+\s*(\S+)|([^\s?=]*[^\s?=$])\s*\?+)\s*")
"""`?NAME` or `NAME?`; an assignment as `status=$?` is the shell's."""

_FUNCTION = re.compile(r"(?:^|[\s;&|{(])([A-Za-z_]\w*)\s*\(\s*\)")
"""What may define a function; a shell that cannot list its own is asked for each when it matters."""


class ContainerKernel(Kernel):
    """A notebook whose cells all run in one container, by one shell that lasts from cell to cell."""

    implementation = "nbcontainer"
    implementation_version = __version__
    language_info = {  # noqa: RUF012 - Jupyter's own name and type
        "name": "bash",
        "mimetype": "text/x-sh",
        "file_extension": ".sh",
        "codemirror_mode": "shell",
        "pygments_lexer": "bash",
    }

    run = Unicode("busybox", help="The image and the options, as in %container run IMAGE.").tag(config=True)
    shell_name = Unicode(
        "", help="The shell, by its name in the image; empty for bash, or sh where there is none."
    ).tag(config=True)
    notebooks = Unicode("", help="Show the kernel's working directory at the same path: rw, ro or none.").tag(
        config=True
    )
    output_limit = Int(OUTPUT_LIMIT, help="Bytes of a cell's output to show; the whole is in a file.").tag(config=True)
    trust_output = Bool(False, help="Whether `display` shows HTML, SVG and scripts as they are.").tag(config=True)
    hints = Bool(True, help="Whether to show what a failed cell lacks, and how to have it.").tag(config=True)
    raise_error = Bool(True, help="Whether a cell that ends badly fails, and stops Run All.").tag(config=True)

    _execute_sleep = Float(0.0, help="Seconds before a reply. Output is sent before the reply, in order.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.engine = default_engine()
        self._words_error: NbcontainerError | None = None
        self._functions: set[str] = set()
        self._given_hints = Hints()
        self._counters: dict[str, int] = {}
        self._previous_handler: Any = None
        self._raises_interrupts = False
        self.frontends = FrontendMessages(self)
        self.history = History(self.engine.store.path / "history.sqlite")
        self.outputs = Outputs(self.frontends, self.output_limit, self._place, trust=self.trust_output)
        self.cells = self._make_shell()

    def _make_shell(self) -> ShellSession:
        """Return the session; its shell starts if the store has the image. The first cell raises errors in `run`."""
        try:
            words = parse(RUN_WORDS, shlex.split(self.run))
            if not words.operands and not words.has("name"):
                raise UsageError("missing image", hint="name one in `ContainerKernel.run`")
            request, notice = with_notebooks(self.engine.store, request_of(words), self.notebooks)
            request = replace(request, kernel=self.run)
        except (NbcontainerError, ValueError) as error:
            self._words_error = (
                error
                if isinstance(error, NbcontainerError)
                else UsageError(str(error), hint="check the quotes in `ContainerKernel.run`")
            )
            request, notice = request_of(Words(operands=["busybox"])), ""
        shell = ShellSession(self.engine, request, self.outputs, self.shell_name, notice)
        if self._words_error is None:
            with contextlib.suppress(NbcontainerError):  # the first cell raises it
                shell.choose(here=True)
                shell.begin()
        return shell

    def _place(self) -> Path:
        return self.engine.store.path / "tmp" / self.engine.store.unique()

    @property
    def banner(self) -> str:  # type: ignore[override]
        """The first line of a console."""
        return f"nbcontainer {__version__}: cells run in a container of {self.run}"

    @property
    def kernel_info(self) -> dict[str, Any]:
        """Kernel information, without the debugger that only IPython's kernel has."""
        return {**super().kernel_info, "supported_features": []}

    # Cells

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: dict[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        """Run a cell. It blocks: no other request is due meanwhile, and interrupts have their own thread."""
        if store_history and not silent:
            self.history.add(self.execution_count, code)
        self.outputs.begin(self.frontends.parent, silent=silent)
        payload: list[dict[str, Any]] = []
        try:
            if self._words_error is not None:
                raise self._words_error
            if question := _QUESTION.fullmatch(code):
                name = question[1] or question[2]
                text = magic_help(name) or self._information(name)
                payload.append({"source": "page", "data": {"text/plain": text}, "start": 0})
            else:
                self._run(code, InputRequests(self, self.outputs.flush) if allow_stdin else None, silent=silent)
        except KeyboardInterrupt:
            return self._fail(_failure(CellEnd(0, Reason.INTERRUPTED), ""), silent=silent)
        except NbcontainerError as error:
            return self._fail(error, silent=silent)
        except OSError as error:  # the kernel refuses this process something: descriptors, memory, space
            failed = store_error("run a cell", error.filename or self.engine.store.path, error)
            return self._fail(failed, silent=silent)
        finally:
            self.outputs.finish()
        return {
            "status": "ok",
            "execution_count": self.execution_count,
            "payload": payload,
            "user_expressions": {name: self._evaluate(word) for name, word in (user_expressions or {}).items()},
        }

    def _information(self, name: str) -> str:
        """Return what the container has about a name."""
        with self._interruptible():
            self.cells.choose(ProgressDisplay(self.frontends))
        return inspect(name, len(name), self._ask) or f"no information about '{name}'"

    def _run(self, code: str, keyboard: InputRequests | None, *, silent: bool) -> None:
        """Run the magics a cell begins with, then the rest. Raises `CellFailed` and this package's other errors."""
        magics, rest = first_magics(code)
        if not rest.startswith("#!"):
            rest = without_bangs(rest)
        for line in magics:
            with self._interruptible():
                result = run_magic(line, self.cells, ProgressDisplay(self.frontends))
            self._show_result(result, silent=silent)
        if not rest.strip():
            return
        self._functions.update(_FUNCTION.findall(rest))
        with self._interruptible():
            self.cells.choose(ProgressDisplay(self.frontends))
        end = self.cells.run(rest, keyboard)
        if end.note:
            self.outputs.stderr(f"nbcontainer: {end.note}\n".encode())
        if end.reason == Reason.EXITED and end.status and not silent:
            self._hint(code)
        if end.reason != Reason.EXITED or (end.status and self.raise_error):
            raise _failure(end, failing_line(rest, bytes(self.outputs.errors.data)))

    def _hint(self, code: str) -> None:
        """Show the new hints after a failed cell, each as a display of its own."""
        if not self.hints:
            return
        counters = unreached(self.cells.init) if self.cells.init else {}
        before, self._counters = self._counters, counters
        new = {name: count for name, count in counters.items() if count > before.get(name, 0)}
        for text in self._given_hints.after_shell_cell(self.cells.request, code, new):
            self.outputs.flush()
            content = {"data": hint_box(text), "metadata": {}, "transient": {}}
            self.frontends.publish("display_data", content, self.frontends.parent)

    def _show_result(self, view: Any, *, silent: bool) -> None:
        if view is None or silent:
            return
        data = {"text/plain": str(view)}
        if hasattr(view, "_repr_html_") and (page := view._repr_html_()):
            data["text/html"] = page
        content = {"execution_count": self.execution_count, "data": data, "metadata": {}}
        self.outputs.flush()
        self.frontends.publish("execute_result", content, self.frontends.parent)

    def _fail(self, error: NbcontainerError, *, silent: bool) -> dict[str, Any]:
        self.outputs.finish()
        name = type(error).__name__
        content = {"ename": name, "evalue": str(error), "traceback": [error.line(colours=True)]}
        if not silent:
            self.frontends.publish("error", content, self.frontends.parent)
        return {"status": "error", "execution_count": self.execution_count, **content}

    def _evaluate(self, word: str) -> dict[str, Any]:
        """Return a word as the shell expands it within double quotes."""
        try:
            text = self._ask(f'printf %s "{word}"')
        except NbcontainerError as error:
            return {"status": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": []}
        return {"status": "ok", "data": {"text/plain": text}, "metadata": {}}

    def _ask(self, script: str) -> str:
        if self._words_error is not None:
            return ""
        return self.cells.ask(script)

    # What frontends ask

    async def do_complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """Complete the word at the cursor with the container's files, commands and variables."""
        try:
            found = complete(code[:cursor_pos], self._ask, sorted(self._functions))
        except NbcontainerError:
            found = complete("", lambda _: "")
        return {
            "status": "ok",
            "matches": list(found.matches),
            "cursor_start": found.start,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> dict[str, Any]:
        """Show the container's documentation of the name at the cursor."""
        try:
            text = inspect(code, cursor_pos, self._ask)
        except NbcontainerError:
            text = ""
        return {"status": "ok", "found": bool(text), "data": {"text/plain": text} if text else {}, "metadata": {}}

    async def do_is_complete(self, code: str) -> dict[str, Any]:
        """Return whether a cell is complete: the container's shell parses it and does not run it."""
        try:
            status, indent = completeness(code, lambda script: self.cells.ask(script, cell=without_bangs(code)))
        except NbcontainerError:
            status, indent = "unknown", ""
        return {"status": status, "indent": indent} if status == "incomplete" else {"status": status}

    async def do_history(
        self,
        hist_access_type: str,
        output: bool,
        raw: bool,
        session: int | None = None,
        start: int | None = None,
        stop: int | None = None,
        n: int | None = None,
        pattern: str | None = None,
        unique: bool = False,
    ) -> dict[str, Any]:
        """Return the history of this kernel and of the user's other kernels."""
        if hist_access_type == "tail":
            found = self.history.tail(n or 10)
        elif hist_access_type == "range":
            found = self.history.range(session or 0, start or 0, stop)
        else:
            found = self.history.search(pattern or "*", n, unique=unique)
        entries = [(s, line, (source, None) if output else source) for s, line, source in found]
        return {"status": "ok", "history": entries}

    # Interrupts

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let an interrupt raise `KeyboardInterrupt` inside the block, in which no cell runs."""
        self._raises_interrupts = True
        try:
            yield
        finally:
            self._raises_interrupts = False

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """End the cell. The control channel's thread calls this while the main thread runs the cell."""
        if not self.cells.interrupt() and self._raises_interrupts:
            os.kill(os.getpid(), signal.SIGINT)  # only the main thread can raise an exception there
        if self.session:
            self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    def pre_handler_hook(self) -> None:
        """Make SIGINT end the cell, for frontends that interrupt with it."""
        self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)

    def post_handler_hook(self) -> None:
        """Restore the handler of SIGINT."""
        signal.signal(signal.SIGINT, self._previous_handler)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self.cells.interrupt() and self._raises_interrupts:
            raise KeyboardInterrupt

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """End the shell and everything in its container. The control channel stops a running cell."""
        self.cells.close()
        self.engine.close()
        self.history.close()
        return {"status": "ok", "restart": restart}


def _failure(end: CellEnd, line: str) -> NbcontainerError:
    """Return the error of a cell that ended badly. `line` is the script's line that the shell reported."""
    outcome = end.outcome()
    if end.reason == Reason.INTERRUPTED:
        return CellFailed("interrupted", outcome=outcome)
    if end.reason == Reason.TIMEOUT:
        return CellFailed("stopped after its time limit", outcome=outcome, hint="set a longer one with `--timeout`")
    return failure(outcome, line)
