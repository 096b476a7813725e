"""Examples in help texts, by the verb: what follows `%container`, or `nbcontainer` in a terminal."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "%%container": (
        "%%container busybox",
        "%%container busybox -v ~/data:/data:ro",
        "%%container --name dev python:3.12-slim",
        "%%container busybox --untrusted --timeout 5m",
        "%%container busybox --in table --get result",
        "%%container busybox --bg --name web",
    ),
    "run": ("run busybox echo hello", "run -v ./data:/data:ro busybox ls /data", "run --name dev busybox touch /file"),
    "use": ("use host --here", "use --name dev python:3.12-slim", "use busybox --untrusted", "use --reset"),
    "ps": ("ps", "ps -q"),
    "images": ("images", "images busybox"),
    "import": ("import rootfs.tar.gz base",),
    "load": ("load image.tar",),
    "pull": ("pull python:3.12-slim", "pull ghcr.io/owner/name@sha256:…"),
    "push": ("push mine registry.example.org/team/mine:1",),
    "save": ("save mine -o mine.tar",),
    "tag": ("tag mine mine:1",),
    "df": ("df",),
    "verify": ("verify",),
    "rmi": ("rmi mine:1",),
    "export": ("export dev -o rootfs.tar.zst",),
    "commit": ("commit dev mine", 'commit dev mine -m "with numpy" --change "ENV MODE=fast"'),
    "rm": ("rm dev", "rm -f dev"),
    "rename": ("rename dev model",),
    "stop": ("stop dev", "stop -t 5 dev"),
    "jobs": ("jobs",),
    "kill": ("kill db", "kill -s SIGHUP db"),
    "restart": ("restart db",),
    "port": ("port web", "port web 8080"),
    "top": ("top db",),
    "stats": ("stats", "stats --no-stream db"),
    "cp": ("cp db:/var/log/db.log .", "cp ./data db:/srv"),
    "exec": ("exec db ls /", "exec -u postgres -w /srv db sh -c 'ls -l'"),
    "logs": ("logs db", "logs -f db", "logs --tail 20 -t db"),
    "wait": ("wait db", "wait --timeout 5m db web"),
    "diff": ("diff", "diff dev", "diff dev@0 dev@2 --text", "diff python:3.12 python:3.13"),
    "debug": ("debug", "debug dev", "debug dev cat /var/log/error.log"),
    "changes": ("changes", "changes dev --text"),
    "apply": ("apply dev", "apply dev --force"),
    "discard": ("discard dev",),
    "history": ("history dev", "history python:3.12-slim"),
    "undo": ("undo", "undo dev"),
    "redo": ("redo dev",),
    "checkout": ("checkout dev@3 --name fork", "checkout dev@0 --name fresh"),
    "tree": ("tree", "tree dev fork"),
    "restore": ("restore dev@2 /etc/hosts", "restore dev@0 /srv /home"),
    "inspect": ("inspect dev", "inspect busybox"),
    "explain": ("explain busybox echo hello",),
    "layers": ("layers", "layers dev@2"),
    "mounts": ("mounts busybox",),
    "namespaces": ("namespaces busybox",),
    "cache": ("cache export results.cache", "cache import results.cache"),
    "volume": ("volume ls", "volume rm data", "volume prune"),
    "prune": ("prune",),
    "doctor": ("doctor",),
}
"""Every verb has one. A test parses each, and compares the names with those of the verbs."""

GROUPS: dict[str, tuple[str, ...]] = {
    "run": ("run", "use", "ps", "debug", "undo", "redo", "checkout", "rename", "restore", "commit"),
    "jobs": ("jobs", "logs", "wait", "stop", "kill", "restart", "exec", "cp", "top", "stats", "port"),
    "images": ("images", "pull", "push", "tag", "load", "save", "import", "export"),
    "inspect": ("inspect", "diff", "history", "tree", "explain", "layers", "mounts", "namespaces", "verify", "doctor"),
    "clean up": ("rm", "rmi", "volume", "cache", "prune", "df"),
    "copy-on-write volumes": ("changes", "apply", "discard"),
}
"""The verbs by what they are for. A verb that is in none of them is shown in the last one, `more`."""

MORE = "more"


def grouped(names: list[str]) -> dict[str, list[str]]:
    """Return these names of verbs by their groups, in the order of the groups."""
    found = {group: [name for name in members if name in names] for group, members in GROUPS.items()}
    known = {name for members in found.values() for name in members}
    found[MORE] = [name for name in names if name not in known]
    return {group: members for group, members in found.items() if members}
