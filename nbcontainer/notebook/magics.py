"""`%%container`, `%container` and `%commit`: parse the arguments, run them, show the result."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Bool, Enum, Int, Unicode, validate

from nbcontainer.commands import containers
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.explain import LANGUAGE
from nbcontainer.commands.explanation_view import ExplanationView
from nbcontainer.commands.failing_line import failing_line
from nbcontainer.commands.grammar import Command, Words, parse
from nbcontainer.commands.output import OUTPUT_LIMIT
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.commands.verbs.debugging import DEBUG
from nbcontainer.commands.views.job_views import LogOutput
from nbcontainer.commands.views.usage_views import LiveTable
from nbcontainer.containers import startup
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cells.surroundings import with_directory
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.run import run
from nbcontainer.errors import NbcontainerError, SetupFailed, StoreError, UsageError
from nbcontainer.notebook import call_site, cell_values, defaults, job_cells, live_cells, python_cells
from nbcontainer.notebook.cell_magic.cell_defaults import CellDefaults
from nbcontainer.notebook.cell_magic.explained_on_page import ExplainedOnPage
from nbcontainer.notebook.cell_magic.grammars import CELL, HELP_TEXT, RUN_LINE
from nbcontainer.notebook.cell_magic.output_on_page import OutputOnPage
from nbcontainer.notebook.cell_magic.parsed_lines import FILLED, ParsedLines, verb_arguments
from nbcontainer.notebook.cell_magic.settings import CONFIGURABLE, checked, trait
from nbcontainer.notebook.cell_outputs import Captured, Watch, failure, interrupts_as_errors
from nbcontainer.notebook.defaults import USE
from nbcontainer.notebook.display.boxes import hint_box, show
from nbcontainer.notebook.display.progress_bar import listener
from nbcontainer.notebook.hints import CellFacts, Hints
from nbcontainer.notebook.interpolation import expand, filler, plain, split_for_expansion, unix_lines
from nbcontainer.notebook.live_cells import EXEC
from nbcontainer.notebook.magic_completion import StoreNames, matcher
from nbcontainer.notebook.notices import Notices, write
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Reason
from nbcontainer.runs.value_exchange import connect
from nbcontainer.sandbox.steps.base import Language
from nbcontainer.store.errors import store_error, store_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener
    from nbcontainer.runs.results import Result
    from nbcontainer.values.exchange import Exchange

_HELP = ("-h", "--help", "help")


@magics_class
class ContainerMagics(Magics):
    """Containers as notebook cells. `%config ContainerMagics` shows and sets the defaults."""

    image = Unicode("", help="The image of cells without an image and without --name.").tag(config=True)
    vars().update({option.keyword: trait(option) for option in CONFIGURABLE})
    raise_error = Bool(True, help="Whether a cell whose run fails is an error, and stops Run All.").tag(config=True)
    trust_output = Bool(False, help="Whether --show displays HTML, SVG and scripts of containers as they are.").tag(
        config=True
    )
    output_limit = Int(OUTPUT_LIMIT, min=0, help="Bytes of a cell's output to show; all of it is in a file.").tag(
        config=True
    )
    footer = Bool(False, help="Whether to show image, exit code, time, memory and changed files after a cell.").tag(
        config=True
    )
    hints = Bool(True, help="Whether to show what a cell lacks, and how to have it, after the cell.").tag(config=True)
    language = Enum(tuple(Language), Language.ENGLISH, help="The language of --explain: en or zh.").tag(config=True)
    store = Unicode("", help="Directory of the store; empty for the user's own.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.given_hints = Hints()
        self.notices = Notices()
        self._defaults = CellDefaults(self)
        self._lines = ParsedLines()
        self._engines: dict[str, Engine] = {}

    @validate(*(option.keyword for option in CONFIGURABLE))
    def _checked(self, proposal: Any) -> Any:
        """Return the value that an option's trait gets. Raises `TraitError`: then the old value stays."""
        option = next(option for option in CONFIGURABLE if option.keyword == proposal.trait.name)
        return checked(option, proposal.value)

    _holding: Engine | None = None
    _unseen: tuple[str, ...] = ()

    @property
    def engine(self) -> Engine:
        """The engine on this notebook's store."""
        if not self.store:
            return default_engine()
        engine = self._engines.get(self.store)
        return self._opened(self.store) if engine is None or engine.closed else engine

    def _opened(self, text: str) -> Engine:
        """Return the engine on the store that a text names: the same one, whatever ways of writing it there are."""
        path = os.path.realpath(host_path(text))
        engines = (one for one in self._engines.values() if not one.closed and str(one.store.path) == path)
        engine = self._engines[text] = next(engines, None) or Engine(Path(path))
        return engine

    @cached_property
    def matcher(self) -> Callable[[Any], Any]:
        """The matcher for completion of these magics, for IPython's completer."""
        return matcher(
            {"%%container": CELL, RUN.name: RUN_LINE, USE.name: USE, EXEC.name: EXEC, DEBUG.name: DEBUG},
            lambda: StoreNames(self.engine, self._namespace),
        )

    def start(self) -> None:
        """Start the launcher in the background. If the store cannot be opened, its first use reports that."""
        with contextlib.suppress(NbcontainerError):
            engine = self.engine
            startup.start(engine, self.image or "busybox")
            job_cells.keep_ends(engine, self.shell)
            self._unseen = tuple(job_cells.ends_before(engine, self.shell))

    def before_cell(self, info: ExecutionInfo) -> None:
        """Wake the container for a `%%container` cell while IPython compiles it: a warm one, or that of a live cell."""
        if info.raw_cell is not None and info.raw_cell.startswith("%%container"):
            with contextlib.suppress(NbcontainerError):  # the cell reports it
                self._holding = self.engine
                self._holding.background.hold()
                if not live_cells.wake(self._holding, info.raw_cell.partition("\n")[0]):
                    self._holding.wake()

    def after_cell(self, _: ExecutionResult) -> None:
        """Allow the next container to be made, after IPython has finished the cell."""
        if self._unseen:
            for line in self._unseen:
                write(line)
            self._unseen = ()
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.background.release()

    def close(self) -> None:
        """End the containers of this notebook, on each store that it has used."""
        with contextlib.suppress(NbcontainerError):
            self.engine.close()
        for engine in self._engines.values():
            engine.close()

    @no_var_expand
    @line_cell_magic
    def container(self, line: str, cell: str | None = None) -> Any:
        """Run the cell in a container, or a verb. `%%container?` shows `HELP_TEXT` instead of this."""
        with interrupts_as_errors():
            return self._container(line, cell)

    def _container(self, line: str, cell: str | None) -> Any:
        if cell is not None:
            return self._do_cell(CELL, self._lines.of(line, self._fill), "", unix_lines(cell))
        words = verb_arguments(line)
        if not words or words[0] in _HELP:
            return _show(containers.in_groups("%container ", RUN, USE, EXEC, DEBUG))
        name, *rest = words
        if name == RUN.name:
            return self._do_cell(RUN_LINE, parse(RUN_LINE, rest, fill=self._fill), "%container ", None)
        if name == USE.name:
            return self._use(rest)
        if name == EXEC.name:
            return self._exec(rest)
        if name == DEBUG.name:
            return self._debug(rest)
        if name not in containers.VERBS:
            own = (RUN.name, USE.name, EXEC.name, DEBUG.name)
            raise containers.unknown(plain(name), verbs=(*containers.VERBS, *own))
        return self._do(name, rest, "%container ")

    @no_var_expand
    @line_magic
    def commit(self, line: str) -> Any:
        """Make an image of a container's changes. `%commit?` shows the verb's help text instead of this."""
        return self._do_alone("commit", line)

    @no_var_expand
    @line_magic
    def undo(self, line: str) -> Any:
        """Go back to before the last cell that changed something. `%undo?` shows the verb's help text instead."""
        return self._do_alone("undo", line)

    @no_var_expand
    @line_magic
    def redo(self, line: str) -> Any:
        """Go forward to what was undone. `%redo?` shows the verb's help text instead of this."""
        return self._do_alone("redo", line)

    def _do_alone(self, name: str, line: str) -> Any:
        """Run a verb that is a magic of its own."""
        with interrupts_as_errors():
            return self._do(name, split_for_expansion(line), "%")

    def _do(self, name: str, words: Sequence[str], prefix: str) -> Any:
        verb = containers.VERBS[name]
        if parse(verb.command, words).has("help"):
            return _show(verb.command.describe(prefix))
        parsed = parse(verb.command, words, fill=self._fill)
        if not verb.verbs:  # the tail is a command for the container
            parsed.tail = [plain(word) for word in parsed.tail]
        try:
            engine = self.engine
        except StoreError:
            if name != "doctor":
                raise
            from nbcontainer.commands.doctor.examination import answer

            # It says so, and what else there is to say.
            return answer(parsed, host_path(self.store) if self.store else None)
        with store_errors(f"do {prefix}{name}", engine.store.path):
            return self._shown(verb.answer(Invocation(engine, parsed, listener(self.shell), self._fill)), parsed)

    def _shown(self, view: Any, words: Words) -> Any:
        """Return an explanation in the notebook's language, unless the line names one; any other view as it is.

        The output of a job that is followed is shown as it comes.
        """
        if isinstance(view, LogOutput):
            view.limit = self.output_limit
            return job_cells.show_output(view) if view.follow else view
        if isinstance(view, LiveTable) and hasattr(self.shell, "kernel"):
            return job_cells.show_live(view)
        if isinstance(view, ExplanationView) and not words.has(LANGUAGE.name):
            return replace(view, language=Language(self.language))
        return view

    def _do_cell(self, command: Command, parsed: Words, prefix: str, script: str | None) -> Result | Container | None:
        if parsed.has("help"):
            _show(command.describe(prefix))
            return None
        if script is not None and not script.strip() and not parsed.tail:
            hint = "write the script below `%%container`, or a command after the image"
            raise UsageError("%%container is a cell magic, but the cell body is empty", hint=hint)
        if script is not None and not script.strip() and (parsed.has("interactive") or parsed.has("stdin")):
            script = None  # the command's input comes from elsewhere
        try:  # free of calls for a cell that begins
            return self._run(parsed, script)
        except OSError as error:
            raise store_error("run a cell", error.filename or self.engine.store.path, error) from error

    def _exec(self, words: Sequence[str]) -> Result | Container | None:
        parsed = parse(EXEC, words, fill=self._fill)
        if parsed.has("help"):
            _show(EXEC.describe("%container "))
            return None
        with store_errors("run a command", self.engine.store.path):
            return self._run(live_cells.in_container(self.engine, parsed), None)

    def _debug(self, words: Sequence[str]) -> None:
        parsed = parse(DEBUG, words, fill=self._fill)
        if parsed.has("help"):
            return _show(DEBUG.describe("%container "))
        from nbcontainer.notebook.debugging import debug

        parsed.tail = [plain(word) for word in parsed.tail]
        return debug(self.engine, parsed, self.shell)

    def _use(self, words: Sequence[str]) -> None:
        """Set, show or clear what cells run with that name neither an image nor a container."""
        parsed = parse(USE, words, fill=self._fill)
        if parsed.has("help"):
            return _show(USE.describe("%container "))
        if parsed.options.pop("reset", None) is not None:
            self._defaults.forget()
        if parsed.operands or parsed.options:
            defaults.check(parsed, self.image)
            options = request_of(defaults.copied(parsed)).options
            self._defaults.use(parsed)
            self.notices.forget()
            if options.here:
                with_directory(self.engine.store, options, Streams(_nowhere, _nowhere, on_notice=self.notices.show))
        elif not words:
            _show(self._defaults.describe())
        return None

    @property
    def _namespace(self) -> dict[str, Any]:
        """The notebook's variables."""
        assert self.shell is not None
        return cast("dict[str, Any]", self.shell.user_ns)

    def _fill(self, word: str) -> str:
        """Return a word of the line with the values of its expressions and variables."""
        if FILLED.isdisjoint(word):
            return word
        names = self._names
        return filler(names)(expand(word, names))

    @property
    def _names(self) -> dict[str, Any]:
        """The variables of the notebook, and those of the function that runs the magic."""
        return {**self._namespace, **call_site.local_names(self._namespace)}

    def _run(self, words: Words, script: str | None) -> Result | Container | None:
        words.tail = [plain(word) for word in words.tail]
        notice = self.notices.of(again=words.has("here"))
        self._defaults.apply(words)
        cell_values.wanted(words)
        if words.has("in"):
            words.options["in"] = [plain(word) for word in words.all("in")]
        exchange = cell_values.exchange(words, self._names) if cell_values.given(words) else None
        captured = None if script is not None or call_site.ignores_value() else Captured()
        with exchange or contextlib.nullcontext():
            return self._run_in(words, script, exchange, notice, captured)

    def _run_in(
        self,
        words: Words,
        script: str | None,
        exchange: Exchange | None,
        notice: Callable[[str], None],
        captured: Captured | None,
    ) -> Result | Container | None:
        if words.has(job_cells.OPTION.name):
            started = self._start(words, self._request(words, script, exchange, prompts=False), exchange, notice)
            return None if captured is None else started
        if words.has(job_cells.WAIT_FOR.name):
            raise UsageError("--wait-for cannot be used without --bg", hint="add --bg, or remove --wait-for")
        engine = self.engine
        live = live_cells.runs_live(engine, words)
        request = self._request(words, script, exchange, prompts=not live)
        untrusted = words.has(defaults.UNTRUSTED) or (live and live_cells.is_untrusted(engine, words))
        trust = words.flag("trust-output", default=self.trust_output and not untrusted)
        page = OutputOnPage(words, engine.store, lambda: self.output_limit, trust=trust, untrusted=untrusted)
        streams = page.streams(notice, captured)
        if exchange is not None:
            exchange.later = engine.later
            connect(exchange, request.options, streams)
        explained = ExplainedOnPage(lambda: Language(self.language))
        streams.on_explained = explained.take
        streams.on_follow = watch = Watch()
        try:
            container, outcome = (self._run_live if live else self._run_once)(engine, words, request, streams)
        except SetupFailed as error:
            self._hint(words, CellFacts(request, failed=error.step == "Execute"))
            raise
        finally:
            page.finish(self._namespace)
            explained.show()
        self._show_beside(words, CellFacts(request, container, not outcome.ok, watch.ended), outcome)
        if not outcome.ok:
            self._report(words, outcome, failing_line(script, page.last_errors))
        elif exchange is not None:
            cell_values.finish(exchange, words, self._namespace, trust=trust)
        return None if captured is None else captured.result(container, outcome)

    def _start(
        self, words: Words, request: Request, exchange: Exchange | None, notice: Callable[[str], None]
    ) -> Container:
        """Start a cell as a job, and return its container."""
        streams = Streams(_nowhere, _nowhere, on_notice=notice)
        if exchange is not None:
            connect(exchange, request.options, streams)
        return job_cells.start(self.engine, words, request, streams, shell=self.shell, progress=listener(self.shell))

    def _request(self, words: Words, script: str | None, exchange: Exchange | None, *, prompts: bool) -> Request:
        unset = () if exchange is None else exchange.variables
        request = request_of(words, script=script, prompts=prompts, unset_env=unset)
        return python_cells.in_python(request) if words.has(python_cells.OPTION.name) else request

    def _run_once(self, engine: Engine, words: Words, request: Request, streams: Streams) -> tuple[Container, Outcome]:
        progress = listener(self.shell)
        if not (words.has("tty") or words.has("interactive")):
            return run(engine, request, streams, progress=progress)
        from nbcontainer.notebook.prompts import cell_input

        cell_input.check(words, request.script)
        launcher = engine.launcher_for(request.options.privileges.userns)
        with cell_input.connected(words, streams, self.shell, launcher):
            return run(engine, request, streams, progress=progress)

    def _run_live(self, engine: Engine, words: Words, request: Request, streams: Streams) -> tuple[Container, Outcome]:
        """Run a cell in a live container."""

        def progress() -> Listener | None:
            return listener(self.shell)

        return live_cells.run(engine, request, streams, words=words, shell=self.shell, progress=progress)

    def _show_beside(self, words: Words, cell: CellFacts, outcome: Outcome) -> None:
        """Show the hints and the footer of a cell that has ended."""
        if outcome.reason in (Reason.EXITED, Reason.SIGNAL):
            self._hint(words, cell)
        if cell.container is not None and words.flag("footer", default=self.footer):
            from nbcontainer.notebook.display.footer import footer  # only a footer needs it

            live = live_cells.described(self.engine, words)
            show(self.shell, footer(cell.container, outcome, live))

    def _report(self, words: Words, outcome: Outcome, line: str) -> None:
        """Raise the error of a run that failed, or print it if the cell must not fail."""
        # An interrupt must stop Run All, whatever the options of the cell are.
        if outcome.reason == Reason.INTERRUPTED or not words.flag("no-raise-error", default=not self.raise_error):
            raise failure(outcome, line)
        if outcome.reason != Reason.EXITED:
            print(outcome.describe(), file=sys.stderr)

    def _hint(self, words: Words, cell: CellFacts) -> None:
        """Show the new hints after a cell, unless they are turned off."""
        if not words.flag("quiet", default=not self.hints):
            with contextlib.suppress(NbcontainerError, OSError):  # another process removed what a hint looks at
                for text in self.given_hints.after(cell):
                    show(self.shell, hint_box(text))


ContainerMagics.container.__doc__ = HELP_TEXT
ContainerMagics.undo.__doc__ = containers.VERBS["undo"].command.describe("%")
ContainerMagics.redo.__doc__ = containers.VERBS["redo"].command.describe("%")
ContainerMagics.commit.__doc__ = containers.VERBS["commit"].command.describe("%")


def _nowhere(_: bytes) -> None:
    pass


def _show(text: str) -> None:
    print(text)
