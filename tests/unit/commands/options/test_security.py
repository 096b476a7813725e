"""`--security-opt`: one setting changes something, and the others have a true answer."""

from __future__ import annotations

import pytest

from nbcontainer.commands.options.security import new_privileges
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.spec import Privileges, Userns


@pytest.mark.parametrize(
    ("texts", "allowed"),
    [
        ((), False),
        (("no-new-privileges=false",), True),
        (("no-new-privileges:false",), True),
        (("no-new-privileges=FALSE",), True),
        (("no-new-privileges=0",), True),
        (("no-new-privileges",), False),
        (("no-new-privileges=true",), False),
        (("no-new-privileges:true", "no-new-privileges=false"), True),
        (("no-new-privileges=false", "no-new-privileges"), False),
        (("label=disable", "label:type:container_t"), False),
    ],
)
def test_the_last_setting_counts(texts: tuple[str, ...], *, allowed: bool) -> None:
    """With `=` as with `:`; setuid programs work only if no-new-privileges is false at the end."""
    assert new_privileges(texts) is allowed


@pytest.mark.parametrize(
    "text",
    [
        "seccomp=unconfined",
        "apparmor=x",
        "systempaths=unconfined",
        "no-new-privileges=perhaps",
        "x",
        "",
        "=false",
        "mask=/proc",
    ],
)
def test_any_other_setting_is_refused(text: str) -> None:
    """One line says that it is not supported, or which value is wrong."""
    with pytest.raises(UsageError, match=r"security option|invalid value"):
        new_privileges((text,))


def test_setuid_programs_never_have_rights_over_the_host() -> None:
    """Without a user namespace of the container's own the option is refused, as is the namespace itself for others."""
    with pytest.raises(UsageError, match="userns"):
        Privileges(userns=Userns.HOST, new_privileges=True)
