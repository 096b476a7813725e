"""Small attacks that show what a step of a plan prevents. Each is a script that a container runs.

`nbcontainer.lab.run(without=…)` runs them against a decoy of a host. The tests of attacks run the same ones: each
reaches something without its steps, and nothing with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

SECRET = "the-secret-of-the-host"
"""What an attack on files finds in the decoy of a host, in /home/alice/secret.txt."""

REACHED = "reached"
"""The line that an attack writes when it has succeeded in something that has no secret."""


@dataclass(frozen=True)
class Attack:
    """A script and the steps that stop it.

    `steps` are all that must be left out for the attack to succeed: often more than one step stops it. `reaches` is the
    text in its output if it succeeds. `user` is the user that it runs as.
    """

    name: str
    purpose: str
    steps: tuple[str, ...]
    script: str
    reaches: str = REACHED
    user: str = ""

    def succeeded(self, output: str) -> bool:
        """Return whether the attack reached what it is about."""
        return self.reaches in output


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack(
            "read the host's files",
            "reads a file of the host by its path",
            ("PivotRoot",),
            "cat /home/alice/secret.txt",
            SECRET,
        ),
        Attack(
            "follow an open descriptor",
            "goes from a descriptor that was left open to the host's files (CVE-2024-21626)",
            ("CloseDescriptors",),
            "for fd in /proc/self/fd/*; do cat $fd/home/alice/secret.txt 2>/dev/null; done",
            SECRET,
        ),
        Attack(
            "mount a file system",
            "mounts over its own files, and could mount over what hides others",
            ("DropBounding", "DropCapabilities", "InstallSeccomp"),
            f"mount -t tmpfs none /tmp 2>/dev/null && echo {REACHED}",
        ),
        Attack(
            "make a user namespace",
            "gets all capabilities in a namespace below, and with them the parts of the kernel that have most faults",
            ("InstallSeccomp",),
            f"unshare -U true 2>/dev/null && echo {REACHED}",
        ),
        Attack(
            "change a setting of the kernel",
            "writes to /proc/sys",
            ("ReadOnlyPaths",),
            f"echo 20 > /proc/sys/fs/mqueue/msg_max && echo {REACHED}",
        ),
        Attack(
            "read what the kernel says of the host",
            "reads the host's interrupts in /proc",
            ("MaskPaths",),
            f'[ -s /proc/interrupts ] || [ -n "$(head -c 1 /proc/interrupts)" ] && echo {REACHED}',
        ),
        Attack(
            "stay root",
            "reads a file that only root may read, as a user who is not root",
            ("SetUser",),
            f"cat /etc/shadow >/dev/null 2>&1 && echo {REACHED}",
            user="1000",
        ),
        Attack(
            "start any number of processes",
            "has no limit of its processes",
            ("SetLimits",),
            f"grep -q 'Max processes  *4096' /proc/self/limits || echo {REACHED}",
        ),
    )
}
"""The attacks, by their names."""
