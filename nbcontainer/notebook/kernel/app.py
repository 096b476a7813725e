"""The kernel's process."""

from __future__ import annotations

from typing import Any

from ipykernel.kernelapp import IPKernelApp

from nbcontainer.notebook.kernel.shell_kernel import ContainerKernel


class ContainerKernelApp(IPKernelApp):
    """The application: ipykernel's own, with this kernel. `--ContainerKernel.run='IMAGE ...'` says where cells run."""

    name = "nbcontainer-kernel"
    kernel_class = ContainerKernel
    classes: list[Any] = [ContainerKernel]  # noqa: RUF012 - as traitlets has it

    def init_control(self, context: Any) -> None:
        """Makes the control channel; and no subshells, since one shell runs one cell at a time."""
        super().init_control(context)  # type: ignore[no-untyped-call]
        self.shell_channel_thread = None


def main() -> None:
    """Runs the kernel until a frontend shuts it down."""
    ContainerKernelApp.launch_instance()
