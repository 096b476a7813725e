"""A runner without a sandbox, each piece of work in a process of its own: for work that goes on in several threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer import errors
from tests.unit.images.in_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_CODE = """
import importlib, json, os, sys
from nbcontainer.errors import NbcontainerError
from nbcontainer.images import work
module, function, root, files, arguments = json.loads(sys.argv[1])
work._root = lambda: os.open(root, os.O_RDONLY | os.O_DIRECTORY)
try:
    answer = {"result": getattr(importlib.import_module(module), function)(files, lambda _: None, **arguments)}
except NbcontainerError as error:
    answer = {"raised": type(error).__name__, "message": error.message}
except OSError as error:
    answer = {"errno": error.errno}
print(json.dumps(answer))
"""


class Apart:
    """`nbcontainer.images.runner.Runner` on the directories of `store`."""

    def __init__(self, store: Path) -> None:
        self.store = store

    @property
    def single_id(self) -> bool:
        """Owners are kept where root runs the tests."""
        return not ROOT

    def on_directory(
        self,
        function: Callable[..., Any],
        path: str,
        files: Sequence[int] = (),
        *,
        read_only: bool = False,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Calls the function in another process, with the store's directory in place of the root."""
        words = [function.__module__, function.__name__, str(self.store / path), list(files), arguments]
        command = [sys.executable, "-c", _CODE, json.dumps(words)]
        done = subprocess.run(command, pass_fds=files, stdout=subprocess.PIPE, check=True)
        answer = json.loads(done.stdout)
        if "raised" in answer:
            raise getattr(errors, answer["raised"])(answer["message"])
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer["result"]

    def on_layers(
        self,
        function: Callable[..., Any],
        lowers: Sequence[str],
        files: Sequence[int] = (),
        *,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Nothing here mounts layers."""
        raise NotImplementedError
