"""Runs a notebook's cells in a container's Python: `cell FILE ARG...` for one cell, `live` for one after another.

It runs in the image's Python (3.6 or later) and uses the standard library alone. What it shows goes through the pipe
`channel` in /dev/nbcontainer. Nothing of this package is there.
"""

import ast
import base64
import io
import json
import linecache
import os
import signal
import subprocess
import sys
import traceback
import types

try:
    from _signal import signal as set_handler  # signal.signal takes 20 times as long: it looks for enums
except ImportError:
    set_handler = signal.signal

DIRECTORY = "/dev/nbcontainer"
HERE = (lambda: 0).__code__.co_filename
BUNDLE = "application/vnd.nbcontainer.bundle+json"
AWAIT = getattr(ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)  # Python 3.8
COROUTINE = 0x80  # CO_COROUTINE, inspect(3)

METHODS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
)
"""IPython's display methods, and the type of what each returns."""


class Pipe:
    """A pipe that stays open, out of a program's way. It is opened again if a cell has closed it."""

    def __init__(self, name, flags, place):
        self.path = "{}/{}".format(DIRECTORY, name)
        self.flags = flags | os.O_CLOEXEC
        self.place = place
        self.number = -1

    def call(self, function, argument):
        """Return what a function of os returns for the pipe's descriptor."""
        try:
            if self.number >= 0:
                return function(self.number, argument)
        except OSError:  # closed
            pass
        self.open()
        return function(self.number, argument)

    def open(self):
        """Open it, at a high number if the limit allows one: a cell that closes all files opens others at low ones."""
        low = os.open(self.path, self.flags)
        try:
            self.number = os.dup2(low, self.place, False) or self.place  # Python 3.6 returns None
        except OSError:
            self.number = low
        else:
            os.close(low)


CHANNEL = Pipe("channel", os.O_WRONLY, 250)
CONTROL = Pipe("control", os.O_RDONLY, 251)


def say(line):
    """Write a line to the notebook. One write(2) of a short line is atomic (pipe(7))."""
    CHANNEL.call(os.write, line.encode() + b"\n")


class Display:
    """Sends data to the notebook, and waits until it is shown, so that output stays in order."""

    def __init__(self):
        self.count = 0

    def send(self, mime, data):
        """Show data of one type."""
        self.count += 1
        name = "{}.{}".format(os.getpid(), self.count)
        copy, sign = (os.path.join(DIRECTORY, "shown", name + ending) for ending in (".copy", ".sign"))
        flush()
        try:
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                file.write(data)
            os.chmod(copy, 0o644)  # the notebook reads it, whatever the umask is
            os.mkfifo(sign)
            os.chmod(sign, 0o666)
            answer = os.open(sign, os.O_RDWR | os.O_CLOEXEC)
            try:
                say("display {} {} {}".format(mime, os.path.basename(copy), os.path.basename(sign)))
                refusal = os.read(answer, 4096).strip()
            finally:
                os.close(answer)
        finally:
            for path in (copy, sign):
                try:
                    os.unlink(path)
                except OSError:
                    pass
        if refusal:
            raise RuntimeError(refusal.decode("utf-8", "replace"))

    def value(self, value):
        """Show a value as IPython does: in each form that it has, and as text."""
        data = {} if has_all(value) else forms(value)
        data.setdefault("text/plain", repr(value))
        self.bundle(data)

    def bundle(self, data):
        """Show one thing in several forms."""
        if list(data) == ["text/plain"]:
            self.send("text/plain", encoded("text/plain", data["text/plain"]))
            return
        parts = {str(mime): base64.b64encode(encoded(mime, part)).decode() for mime, part in data.items()}
        self.send(BUNDLE, json.dumps(parts).encode())

    def figures(self):
        """Show every open figure of matplotlib, and close it."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or not hasattr(pyplot, "get_fignums"):
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            target = io.BytesIO()
            try:
                figure.savefig(target, format="png", bbox_inches="tight")
            finally:
                pyplot.close(figure)
            self.bundle({"image/png": target.getvalue(), "text/plain": repr(figure)})


def has_all(value):
    """Return whether a value has any attribute that is asked for, as a mock has: its display methods mean nothing."""
    try:
        return getattr(value, "_ipython_canary_method_should_not_exist_", None) is not None
    except Exception:
        return True


def forms(value):
    """Return the forms in which a value shows itself, by their types."""
    bundle = call(value, "_repr_mimebundle_", include=None, exclude=None)
    if isinstance(bundle, tuple) and bundle:
        bundle = bundle[0]
    data = dict(bundle) if isinstance(bundle, dict) else {}
    for name, mime in METHODS:
        found = call(value, name)
        if isinstance(found, tuple) and found:
            found = found[0]
        if found is not None:
            data.setdefault(mime, found)
    return data


def call(value, name, **arguments):
    """Return what a display method returns; None if the method is missing or fails."""
    if isinstance(value, type):
        return None
    try:
        method = getattr(value, name, None)
        return method(**arguments) if callable(method) else None
    except Exception:  # IPython shows the other forms then, too
        return None


def encoded(mime, part):
    """Return a form's bytes. IPython's pictures are bytes, or text in Base64."""
    if isinstance(part, bytes):
        return part
    if mime in ("image/png", "image/jpeg", "image/gif", "image/webp") and isinstance(part, str):
        return base64.b64decode(part)
    if isinstance(part, str):
        return part.encode("utf-8", "backslashreplace")
    return json.dumps(part, default=str).encode()


def flush():
    """Write what Python holds of the output."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the cell replaced or closed it
            pass


class Figures:
    """Makes `pyplot.show` show the figures in the notebook: a finder that changes the module once it is loaded."""

    def __init__(self, display):
        self.display = display

    def find_spec(self, name, path=None, target=None):
        """See importlib.abc.MetaPathFinder. It finds nothing itself."""
        if name != "matplotlib.pyplot":
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                module.show = lambda *args, **kwargs: self.display.figures()

            spec.loader.exec_module = exec_module
        return spec


class Python:
    """The namespace of the cells, and what runs them."""

    def __init__(self):
        self.display = Display()
        self.process = os.getpid()
        self.begun = self.running = self.early = False
        self.loop = None
        self.driver = sys.modules["__main__"]  # its functions need its names
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__
        self.names["__builtins__"] = __builtins__
        sys.modules["__main__"] = self.module
        sys.meta_path.insert(0, Figures(self.display))
        os.environ.setdefault("MPLBACKEND", "Agg")
        self.names["display"] = self.show

    def show(self, *values):
        """Show values in the notebook, as IPython's `display` does."""
        for value in values:
            self.display.value(value)

    def interrupted(self, number, frame):
        """Handle SIGINT: at most one KeyboardInterrupt for a cell, and none between cells.

        One between the report that the cell begins and its first line is for the cell.
        """
        if self.running or os.getpid() != self.process:
            self.running = False
            raise KeyboardInterrupt
        self.early = self.begun

    def run(self, text, name):
        """Run a cell; return its exit status. The traceback of an error goes to standard error."""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # where Python ends them, and nowhere else
        linecache.cache[name] = (len(text), None, [line + "\n" for line in lines], name)
        set_handler(signal.SIGINT, self.interrupted)
        status = self.attempt(lambda: self.execute(text, name))
        if os.getpid() != self.process:  # a copy that the cell forked comes to its end here
            flush()
            os._exit(status)
        flush()
        return self.attempt(self.display.figures) or status

    def attempt(self, function):
        """Call a function; return 0, or the exit status of the error that ends it, which is written down."""
        try:
            self.running = True
            if self.early:
                raise KeyboardInterrupt
            function()
            status = 0
            self.running = False
        except SystemExit as error:
            self.running = False
            status = exit_status(error.code)
        except BaseException as error:
            self.running = self.early = False
            report(error)
            status = 130 if isinstance(error, KeyboardInterrupt) else 1
        return status

    def execute(self, text, name):
        """Run a cell's statements, and show the value of the last one if it is an expression without a semicolon."""
        tree = compile(text, name, "exec", ast.PyCF_ONLY_AST | AWAIT, True)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not silenced(text):
            last = ast.Expression(tree.body.pop().value)
        if tree.body:
            self.evaluate(compile(tree, name, "exec", AWAIT, True))
        if last is not None:
            value = self.evaluate(compile(last, name, "eval", AWAIT, True))
            if value is not None:
                self.names["_"] = value
                self.display.value(value)

    def evaluate(self, code):
        """Run compiled code; with `await` at its top, in an event loop that stays."""
        if not code.co_flags & COROUTINE:
            return eval(code, self.names)
        import asyncio

        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        task = self.loop.create_task(eval(code, self.names))
        try:
            return self.loop.run_until_complete(task)
        except BaseException:
            self.cancel(task)
            raise

    def cancel(self, task):
        """End what an interrupt left: the next cell with `await` would continue it."""
        if not task.done():
            task.cancel()
            try:
                self.loop.run_until_complete(task)
            except BaseException:  # how it ends is not what ended the cell
                pass


def silenced(text):
    """Return whether a cell ends with a semicolon, before comments: its value is not shown then."""
    import tokenize

    last = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.OP or token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING):
                last = token.string
    except (tokenize.TokenError, SyntaxError):
        return False
    return last == ";"


def exit_status(code):
    """Return the exit status of `sys.exit(code)`; a text is written to standard error."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255
    try:
        sys.stderr.write(str(code) + "\n")
    except Exception:  # the cell replaced or closed it, or the value has no text
        last_word("SystemExit")
    return 1


def report(error):
    """Write an error's traceback, without the lines of this file."""
    try:
        flush()
        found = traceback.TracebackException(type(error), error, error.__traceback__)
        sys.stderr.write("".join(without_driver(found).format()))
    except Exception:  # the error's own text fails
        last_word(type(error).__name__)


def last_word(text):
    """Write a line to standard error, unless the cell closed it."""
    try:
        os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass


def without_driver(found):
    """Return a traceback, and those that it mentions, without the lines of this file."""
    todo = [found]
    while todo:
        one = todo.pop()
        one.stack = traceback.StackSummary.from_list([line for line in one.stack if line.filename != HERE])
        todo += [more for more in (one.__cause__, one.__context__) if more is not None]
    return found


def serve(python):
    """Run the cells that the notebook sends, until it sends `end` or goes away."""
    signal.signal(signal.SIGINT, python.interrupted)
    seen, rest = 0, b""
    while True:
        data = CONTROL.call(os.read, 4096)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            words = line.decode("utf-8", "replace").split(" ", 5)
            if len(words) < 2 or not words[1].isdigit():
                if not line:
                    rehearse(python)
                continue
            number = int(words[1])
            if words[0] == "end":
                return
            if words[0] == "sync":
                say("synced {}".format(number))
            elif words[0] == "ask":
                say("asked {}".format(number))
            elif words[0] == "run" and len(words) > 3 and number > seen:
                seen, python.begun = number, True
                say("begun {} both".format(number))
                status = serve_cell(python, number, *words[2:4], *words[5:])
                python.begun = python.early = False
                say("done {} {}".format(number, status))


def rehearse(python):
    """Do what a cell does, for a cell that comes within a millisecond: its code and data are in the cache then."""
    tree = compile(json.loads('"0"'), "<cell>", "exec", ast.PyCF_ONLY_AST | AWAIT, True)
    eval(compile(ast.Expression(tree.body.pop().value), "<cell>", "eval", AWAIT, True), {})
    set_handler(signal.SIGINT, python.interrupted)


def serve_cell(python, number, source, how, text=""):
    """Run one cell with `source` as its standard input; return its exit status.

    `text` is the cell as JSON; empty if the cell is in its file.
    """
    stdin = os.open(source, os.O_RDWR if source.endswith("keyboard") else os.O_RDONLY)
    if stdin:
        os.dup2(stdin, 0)
        os.close(stdin)
    else:  # the last cell closed it
        os.set_inheritable(stdin, True)
    if getattr(sys.stdin, "closed", False):  # by `exit()`
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open
    if how == "program":
        return run_program(DIRECTORY + "/cell")
    return python.run(json.loads(text) if text else read(DIRECTORY + "/cell"), "<cell {}>".format(number))


def run_program(path):
    """Run a cell whose first line names its program (`#!`); return its exit status, as a shell does."""
    try:
        status = subprocess.call([path])
    except OSError as error:
        last_word("cannot run {}: {}".format(read(path).split("\n", 1)[0], error.strerror))
        return 127 if isinstance(error, FileNotFoundError) else 126
    return status if status >= 0 else 128 - status


def read(path):
    """Return a cell's text from its file."""
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def main():
    """Run what the arguments say; return the exit status."""
    mode, path, *rest = sys.argv[1:]
    python = Python()
    sys.path[0] = ""
    if mode == "live":
        serve(python)
        return 0
    sys.argv = [path, *rest]
    return python.run(read(path), path)


if __name__ == "__main__":
    status = main()
    flush()
    sys.exit(status)
