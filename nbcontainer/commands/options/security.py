"""`--security-opt`: Docker's option, of which one setting changes something here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "no-new-privileges"
_VALUES = {"": True, "true": True, "1": True, "false": False, "0": False}
_FORM = f"write --security-opt {_NAME}=false, or remove it"


def new_privileges(security_opt: Sequence[str] = ()) -> bool:
    """Return whether setuid programs work: only with no-new-privileges=false, as the last of the settings.

    Docker takes `:` for `=`. Labels of SELinux are accepted, since none are set. Raises `UsageError`.
    """
    allowed = False
    for text in security_opt:
        name, _, value = re.sub(":", "=", text, count=1).partition("=") if "=" not in text else text.partition("=")
        if name == _NAME and value.lower() in _VALUES:
            allowed = not _VALUES[value.lower()]
        elif name == _NAME:
            raise UsageError(f"invalid value {value!r} of {_NAME} for --security-opt", hint=_FORM)
        elif name != "label":
            problem = f"unsupported security option '{text}': each container has the same system call filter and masks"
            raise UsageError(problem, hint=_FORM)
    return allowed
