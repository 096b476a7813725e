"""The grammar of `%%container` cells and of `%container run`, and their help text."""

from __future__ import annotations

from dataclasses import replace

from nbcontainer.commands import containers
from nbcontainer.commands.docker_answers import Answer
from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.run import RUN
from nbcontainer.commands.verbs.debugging import DEBUG
from nbcontainer.notebook import cell_values, job_cells, live_cells, python_cells
from nbcontainer.notebook.defaults import USE
from nbcontainer.notebook.live_cells import EXEC

_ARGUMENTS = Option(
    ("-s",), "ARG...", "end the options; what follows are the arguments $1, $2, … of the body", rest=True
)

_CELL_OPTIONS = (
    Option(("--out",), "VAR", "store standard output in this variable instead of showing it"),
    Option(("--err",), "VAR", "store standard error in this variable"),
    Option(("--no-raise-error",), "", "do not fail the cell if the run fails"),
    *cell_values.OPTIONS,
    live_cells.OPTION,
    job_cells.OPTION,
    job_cells.WAIT_FOR,
    python_cells.OPTION,
    Option(("--quiet",), "", "show no hints after the cell"),
    Option(("--footer",), "", "show image, exit code, time, memory and changed files after the cell"),
)

_ANSWERS = {
    **RUN.answers,
    "--proc": Answer(
        "a job has no process object", "name it: --bg --name NAME; then `%container logs NAME`, `stop NAME`"
    ),
}
"""The answers of `run`, and those for the options of `%%bash` that do not exist here."""

CELL = Command(
    "%%container",
    "IMAGE [COMMAND [ARG...]]",
    "Run the cell in a fresh container of IMAGE, or in the one named by --name. The body is the script; with COMMAND, "
    "it is COMMAND's standard input.",
    (*RUN.options, *_CELL_OPTIONS, _ARGUMENTS),
    most=1,
    tail=True,
    answers=_ANSWERS,
    examples=EXAMPLES["%%container"],
)

RUN_LINE = replace(RUN, options=(*RUN.options, *_CELL_OPTIONS))

HELP_TEXT = (
    f"{CELL.describe('')}\n\nverbs of %container:\n  {USE.usage}  {USE.help}\n  {EXEC.usage}  {EXEC.help}\n"
    f"  {DEBUG.usage}  {DEBUG.help}\n"
    f"{containers.overview('')}"
)
