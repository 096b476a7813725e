"""Steps for a container with a single user id, so that packages install as they do elsewhere.

The system call filter answers changes of owner (`nbcontainer.sandbox.steps.rights.seccomp.CHOWN`). apt(8) drops
privileges for downloads and verifies it; a filter cannot fake that, so its sandbox user is disabled.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.sandbox.steps.base import Chinese, Step
from nbcontainer.sandbox.steps.rootfs import STAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.kernel import Kernel

APT_CONFIG = "/dev/apt.conf"
"""Container path of the settings, which apt reads before its own (apt.conf(5)). In no layer and no commit."""

_SETTINGS = b'APT::Sandbox::User "root";\n'


@dataclass(frozen=True)
class WriteAptConfig(Step):
    """A file of settings for apt, whose path is in the environment as APT_CONFIG."""

    phrase: ClassVar[str] = "write settings for apt"
    why: ClassVar[str] = "apt downloads as a user of its own, and there is only one here"
    risk: ClassVar[str] = "nothing; apt would fail, since it requires a second user"
    chinese: ClassVar[Chinese] = Chinese(
        "写入 apt 的设置",
        "apt 用自己的用户下载，而这里只有一个用户",
        "没有危险，但 apt 会失败，因为它需要第二个用户",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write it on the stage."""
        fd = kernel.open(STAGE + APT_CONFIG, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444)
        try:
            kernel.write(fd, _SETTINGS)
        finally:
            kernel.close(fd)


def environment(env: tuple[str, ...]) -> tuple[str, ...]:
    """NAME=value strings, with the settings' path where there is no APT_CONFIG."""
    named = any(item.startswith("APT_CONFIG=") for item in env)
    return env if named else (*env, f"APT_CONFIG={APT_CONFIG}")
