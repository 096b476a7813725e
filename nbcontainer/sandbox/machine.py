"""What this machine allows, and the one thing to do where it does not: the words of doctor and of a failing cell."""

from __future__ import annotations

import os
from pathlib import Path


def _setting(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def namespace_advice(proc_sys: str = "/proc/sys") -> str:
    """Why user namespaces may be closed on this machine, and the command that opens them."""
    if _setting(f"{proc_sys}/kernel/unprivileged_userns_clone") == "0" and os.geteuid() != 0:
        return "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 (as root)"
    if _setting(f"{proc_sys}/user/max_user_namespaces") == "0":
        return "allow user namespaces: sysctl -w user.max_user_namespaces=10000 (as root)"
    if _setting(f"{proc_sys}/kernel/apparmor_restrict_unprivileged_userns") == "1" and os.geteuid() != 0:
        return (
            "AppArmor keeps plain users from user namespaces: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root)"
        )
    if "NoNewPrivs:\t1" in _setting("/proc/self/status"):
        return "this notebook runs under no_new_privs, where newuidmap cannot work: allow privilege escalation for it"
    return "run `nbcontainer doctor` to see what this machine allows"
