"""IPv6 in a private network by slirp4netns(1), which has a container wait for a router's advertisement (RFC 4861).

By that, it would have its address some seconds after its cell has begun: a router is asked a second after the link's
own address is known to be nobody else's (RFC 4862), which takes a second too. So it is given one, as pasta does.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.sandbox.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel


@dataclass(frozen=True)
class AddAddress(Step):
    """An interface's IPv6 address in a network of 64 bits, and the gateway there to everything else.

    It is applied in the container's network namespace alone, and in no plan: `Launcher.configure`.
    """

    interface: str
    address: str
    gateway: str

    why: ClassVar[str] = "a cell reaches others by IPv6 from its first word on"
    advice: ClassVar[Mapping[int, str]] = {
        errno.EACCES: "let new interfaces have IPv6: boot without ipv6.disable_ipv6=1 (as root)"
    }

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """RTM_NEWADDR and RTM_NEWROUTE (rtnetlink(7)), and no other by an advertisement (accept_ra, ip-sysctl.rst)."""
        kernel.add_ipv6(self.interface, self.address, self.gateway)
        with contextlib.suppress(OSError):  # in an outer container, nobody may write that: a second one does no harm
            setting = kernel.open(f"/proc/sys/net/ipv6/conf/{self.interface}/accept_ra", os.O_WRONLY | os.O_CLOEXEC)
            try:
                kernel.write(setting, b"0")
            finally:
                kernel.close(setting)
