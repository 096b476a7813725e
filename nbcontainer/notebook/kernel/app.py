"""The kernel's process."""

from __future__ import annotations

from typing import Any

from ipykernel.iostream import OutStream
from ipykernel.kernelapp import IPKernelApp
from traitlets import DottedObjectName

from nbcontainer.notebook.kernel.shell_kernel import ContainerKernel


class KernelStream(OutStream):
    """A standard stream of the kernel's own process. Cells do not write to it: their output comes from the container.

    ipykernel flushes both streams twice for each cell, and each time waits for the thread that publishes.
    """

    def flush(self) -> None:
        """Send what was written, and wait for it; do nothing if nothing was written since the last time."""
        # `write` sets the attribute, and the thread that publishes clears it when it sends (ipykernel 6.29 to 7).
        if getattr(self, "_flush_pending", True):
            super().flush()  # type: ignore[no-untyped-call]


class ContainerKernelApp(IPKernelApp):
    """The application: ipykernel's own, with this kernel. `--ContainerKernel.run='IMAGE ...'` says where cells run."""

    name = "nbcontainer-kernel"
    kernel_class = ContainerKernel
    classes: list[Any] = [ContainerKernel]  # noqa: RUF012 - as traitlets has it
    outstream_class = DottedObjectName(
        f"{KernelStream.__module__}.{KernelStream.__name__}", help="The class of the process's own streams."
    ).tag(config=True)

    def init_control(self, context: Any) -> None:
        """Make the control channel; and no subshells, since one shell runs one cell at a time."""
        super().init_control(context)  # type: ignore[no-untyped-call]
        self.shell_channel_thread = None


def main() -> None:
    """Run the kernel until a frontend shuts it down."""
    ContainerKernelApp.launch_instance()
