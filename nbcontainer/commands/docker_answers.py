"""The options and verbs of Docker and podman that do not exist here, each with the reason, and what to do instead.

A test compares the options with those of `docker run` and `podman run`.
"""

from __future__ import annotations

from typing import NamedTuple

_REMOVE = "remove it"


class Answer(NamedTuple):
    """Why an option or a verb does not exist, and what to do instead.

    `same` is the value with which an option asks for what is done without it, and is taken; empty if there is none.
    """

    problem: str
    hint: str = _REMOVE
    same: str = ""


def _same(problem: str, hint: str, *names: str) -> dict[str, Answer]:
    return dict.fromkeys(names, Answer(problem, hint))


_RUN_ANSWERS: dict[str, Answer] = {
    "--gpus": Answer("GPUs are not supported yet"),
    **_same("devices of the host are not supported yet", _REMOVE, "--device", "--device-cgroup-rule"),
    **_same(
        "in a terminal, no process would own the job: the program ends with the command",
        "write `&` after the command, or start the job in a notebook, with `%%container --bg`",
        *("-d", "--detach", "--bg"),
    ),
    "--detach-keys": Answer("a job is never attached to a terminal", "use `nbcontainer logs -f NAME`"),
    **_same(
        "values are passed between a notebook and its cells",
        "use -i for standard input, or -v for files; in Python, `inputs` and `get` of nbcontainer.run",
        *("--in", "--get", "--show"),
    ),
    **_same("output and errors are always attached", _REMOVE, "-a", "--attach"),
    **_same("an image is pulled with one display of its progress", _REMOVE, "-q", "--quiet"),
    "--annotation": Answer("annotations are not supported", "use --label"),
    "--label-file": Answer("files of labels are not supported", "use --label for each"),
    **_same(
        "limits of disk I/O are not supported",
        _REMOVE,
        *("--blkio-weight", "--blkio-weight-device", "--device-read-bps", "--device-read-iops"),
        *("--device-write-bps", "--device-write-iops", "--io-maxbandwidth", "--io-maxiops"),
    ),
    **_same(
        "a container has a control group of its own if it has limits",
        "remove it, or use -m, --cpus and --pids-limit",
        *("--cgroup-parent", "--cgroupns", "--cgroups", "--cgroup-conf"),
    ),
    **_same("a container has a name and no id", "use --name", "--cidfile"),
    **_same(
        "no process id is written to a file", "use --name and `%container stop NAME`", "--pidfile", "--conmon-pidfile"
    ),
    **_same(
        "CPU shares, quotas and sets are not supported",
        "use --cpus for a limit",
        *("-c", "--cpu-shares", "--cpu-period", "--cpu-quota", "--cpu-rt-period", "--cpu-rt-runtime"),
        *("--cpuset-cpus", "--cpuset-mems"),
    ),
    **_same("it is for Windows", _REMOVE, "--cpu-count", "--cpu-percent", "--isolation"),
    "--disable-content-trust": Answer("signatures are not checked", "pin the image, as in NAME@sha256:…"),
    **_same(
        "only name servers can be chosen",
        "use --dns; search domains and options are the host's",
        *("--dns-option", "--dns-opt", "--dns-search"),
    ),
    "--domainname": Answer("the host name is one option", "write the whole name, as in -h box.example.org"),
    "--expose": Answer("ports without a port of the host are not reachable", "use -p with --network private"),
    **_same("ports are published by number only", "use -p HOST:PORT with --network private", "-P", "--publish-all"),
    **_same(
        "health checks are those of the image",
        "use `%container commit --change 'HEALTHCHECK CMD ...'`",
        *("--health-cmd", "--health-interval", "--health-retries", "--health-start-period"),
        *("--health-start-interval", "--health-timeout", "--health-on-failure"),
    ),
    "--no-healthcheck": Answer("only jobs run the health check of their image"),
    **_same(
        "containers have no network in common",
        "use --network private with -p to reach a port, or --network host",
        *("--ip", "--ip6", "--link", "--link-local-ip", "--mac-address", "--network-alias", "--net-alias"),
    ),
    **_same("a container always has its own IPC, PID and UTS namespaces", _REMOVE, "--ipc", "--pid", "--uts"),
    **_same("only a limit of the memory is supported", "use -m", "--memory-reservation", "--memory-swappiness"),
    "--kernel-memory": Answer("the kernel has no such limit any more", "use -m"),
    **_same("a run that reaches its memory limit is ended", "use a higher -m", "--oom-kill-disable"),
    **_same(
        "the output of a job has one log, in the store",
        "remove it; `%container logs NAME` shows the log",
        "--log-driver",
        "--log-opt",
    ),
    "--privileged": Answer(
        "no container has privileges over the host", "use --cap-add for capabilities over the container's own objects"
    ),
    "--restart": Answer("restart policies are not supported", "run the cell again"),
    "--replace": Answer("a container is not replaced", "remove it first with `%container rm NAME`"),
    "--runtime": Answer("there is no other runtime"),
    "--seccomp-policy": Answer("each container has the same system call filter"),
    "--sig-proxy": Answer("signals always reach the program"),
    "--stop-timeout": Answer("the time is an option of `stop`", "use `%container stop -t SECONDS NAME`"),
    "--storage-opt": Answer("options of storage drivers are not supported", "use --storage SIZE"),
    "--sysctl": Answer("settings of the kernel cannot be changed"),
    "--volume-driver": Answer("volumes are directories of the store", "remove it, or use -v with a path"),
    "--volumes-from": Answer("containers share volumes by name", "use -v NAME:DST for both"),
    "--use-api-socket": Answer("there is no daemon"),
    # podman
    **_same("an image is chosen by its platform", "use --platform OS/ARCH", "--arch", "--os", "--variant"),
    **_same("logins are those of `docker login` and `podman login`", _REMOVE, "--authfile", "--creds"),
    "--tls-verify": Answer("registries.conf says which registries need no certificate", "mark it there as insecure"),
    "--chrootdirs": Answer("files of the host are not managed in other roots"),
    **_same("variables are passed one by one", "use -e NAME or --env-file", "--env-host", "--http-proxy"),
    "--env-merge": Answer("variables are not combined", "use -e NAME=value"),
    **_same("variables are removed one by one", "use -e NAME for one that is not set", "--unsetenv", "--unsetenv-all"),
    **_same(
        "user ids are mapped by /etc/subuid and /etc/subgid",
        "remove it; `%container doctor` shows the ids",
        *("--uidmap", "--gidmap", "--subuidname", "--subgidname"),
    ),
    **_same("users of the host are not added to /etc/passwd", "use -u with a number", "--hostuser"),
    **_same("/etc/passwd is the image's", "use -u with a number", "--passwd", "--passwd-entry"),
    "--image-volume": Answer("volumes of an image are its directories; with --read-only they can be written"),
    "--init-path": Answer("the init is always this package's"),
    "--no-hosts": Answer("/etc/hosts is needed for the container's own name"),
    "--no-hostname": Answer("/etc/hostname is the image's", "use -h for the container's name"),
    "--decryption-key": Answer("encrypted images are not supported"),
    "--group-entry": Answer("/etc/group is the image's", "use --group-add with a number"),
    "--rdt-class": Answer("classes of memory bandwidth are not supported"),
    "--shm-size-systemd": Answer("systemd does not run in a container here", "use --shm-size"),
    "--personality": Answer("other personalities of the kernel are not supported"),
    **_same("there are no pods", "use --name", "--pod", "--pod-id-file", "--requires"),
    "--preserve-fds": Answer("no descriptor of the notebook reaches a container", "use -v, or standard input"),
    "--read-only-tmpfs": Answer("only what you name can be written", "use --tmpfs /tmp and --tmpfs /run"),
    "--rmi": Answer("a run does not remove its image", "use `%container rmi IMAGE`"),
    "--rootfs": Answer("a directory cannot be the root", "name a tar as the image: `%container import FILE NAME`"),
    "--sdnotify": Answer("there is no service manager"),
    "--systemd": Answer("systemd does not run in a container here", "start the program itself"),
    "--secret": Answer("secrets are not supported", "use -v FILE:/run/secrets/NAME:ro"),
    "--tz": Answer("the time zone is a variable", "use -e TZ=Europe/Berlin"),
    "--umask": Answer("the umask is 0022", "write umask in the cell"),
}

_AS_WITHOUT = {
    "--cgroupns": "private",
    "--cgroups": "enabled",
    "--disable-content-trust": "true",
    "--env-host": "false",
    "--http-proxy": "false",
    "--ipc": "private",
    "--isolation": "default",
    "--no-healthcheck": "false",
    "--no-hostname": "false",
    "--no-hosts": "false",
    "--oom-kill-disable": "false",
    "--pid": "private",
    "--privileged": "false",
    "--publish-all": "false",
    "--quiet": "false",
    "--read-only-tmpfs": "false",
    "--replace": "false",
    "--restart": "no",
    "--rmi": "false",
    "--rootfs": "false",
    "--sig-proxy": "true",
    "--systemd": "false",
    "--tls-verify": "true",
    "--unsetenv-all": "false",
    "--use-api-socket": "false",
    "--uts": "private",
}
"""By an option: the value that changes nothing here. Scripts and generated commands often write it."""

RUN_ANSWERS = {flag: answer._replace(same=_AS_WITHOUT.get(flag, "")) for flag, answer in _RUN_ANSWERS.items()}
"""By an option of `docker run` or `podman run` that `run` and cells do not have: the answer."""

_IN_A_RUN = "a container runs only while its cell or its job runs"

VERB_ANSWERS: dict[str, Answer] = {
    "start": Answer(_IN_A_RUN, "run another cell with --name NAME"),
    "attach": Answer("a job is never attached to a terminal", "use `logs -f NAME`, or `nbcontainer exec -it NAME sh`"),
    "create": Answer("a container is made by its first run", "run a cell with --name NAME"),
    **_same(
        "Dockerfiles are not supported",
        "run the steps in cells with --name, then `%container commit NAME IMAGE`",
        *("build", "buildx", "builder", "farm"),
    ),
    **_same("containers are not paused", "use `%container stop NAME`", "pause", "unpause"),
    "update": Answer("limits are options of each run", "use -m, --cpus and --pids-limit in the next cell"),
    **_same("the host is shown by `doctor`", "use `%container doctor`, or `nbcontainer --version`", "info", "version"),
    **_same(
        "each verb that lists says what",
        "use `%container ps` for containers, `images`, `volume ls` or `kernel list`",
        *("ls", "list"),
    ),
    "system": Answer("there are no system verbs", "use `%container df`, `prune` or `doctor`"),
    **_same("logins are those of Docker and podman", "use `docker login` or `podman login`", "login", "logout"),
    "search": Answer("registries are not searched", "look on the registry's page, then `%container pull NAME`"),
    "network": Answer("networks are options of a run", "use --network none, host or private"),
    "image": Answer("verbs for images are not grouped", "use `%container images`, `pull`, `rmi` or `inspect`"),
    "container": Answer("verbs for containers are not grouped", "use `%container ps`, `rm`, `stop` or `inspect`"),
    "untag": Answer("names are removed by `rmi`", "use `%container rmi NAME`"),
    "events": Answer("there is no daemon that reports events", "see `%container ps` and `%container history NAME`"),
    **_same("files of containers are not mounted on the host", "use -v, or `%container export`", "mount", "unmount"),
    "unshare": Answer("commands run in containers", "use `%%container host`"),
    "secret": Answer("secrets are not supported", "use -v FILE:/run/secrets/NAME:ro"),
    "healthcheck": Answer("health checks run in jobs", "see `%container jobs`"),
    "manifest": Answer("images for several platforms are not made", "use `--platform` to choose one"),
    "checkpoint": Answer("processes are not saved", "use `%container commit` for the files"),
    **_same(
        "several containers at a time are not managed",
        "run each of them in a cell or in a notebook",
        *("compose", "swarm", "stack", "service", "node", "pod", "kube", "play", "generate", "quadlet"),
    ),
    **_same(
        "there is no daemon to configure",
        _REMOVE,
        *("context", "config", "plugin", "trust", "machine", "auto-update", "init", "scout", "artifact"),
    ),
}
"""By a command of Docker or podman that is not a verb here: the answer."""

_LATEST = _same("containers are named", "write the name", "-l", "--latest")
_SELECTED = {
    **_LATEST,
    **_same("containers are named", "write the names: see `ps -q`", "-a", "--all", "--filter", "--cidfile"),
}
_STOPPED = {
    **_SELECTED,
    **_same("containers are named", "write the names: see `ps -q`", "-f", "--running"),
    **_same("a container that does not run is not an error here", _REMOVE, "-i", "--ignore"),
    **_same("the stop signal is the container's", "use `kill -s SIGNAL NAME`, then `stop NAME`", "-s", "--signal"),
}

_TABLE = _same(
    "the form of a table cannot be changed",
    "use --json for a program",
    "--format",
    "--noheading",
    "--sort",
    "--no-trunc",
)
_ALL_LISTED = _same("filters are not supported", "use --json, and choose in a program", "-f", "--filter")
_QUIET = _same("the result is one line", _REMOVE, "-q", "--quiet")
_PLATFORM = Answer("a name in the store has an image for one platform")
_BY_PLATFORM = _same("an image is chosen by its platform", "use --platform OS/ARCH", "--arch", "--os", "--variant")
_REGISTRY = {
    **_same("a name has one tag", "write the verb once for each tag", "-a", "--all-tags"),
    **_same("logins are those of `docker login` and `podman login`", _REMOVE, "--authfile", "--creds"),
    "--cert-dir": Answer("certificates are those of the host"),
    "--disable-content-trust": Answer("signatures are not checked", "pin the image, as in NAME@sha256:…"),
    "--tls-verify": Answer("registries.conf says which registries need no certificate", "mark it there as insecure"),
}

OPTION_ANSWERS: dict[str, dict[str, Answer]] = {
    "commit": {
        **_QUIET,
        "--format": Answer("the manifest is that of OCI"),
        "--iidfile": Answer("the digest is printed, and not written to a file", "use --json for a program"),
        "--include-volumes": Answer("files of volumes are not in an image", "copy them with cp in a cell"),
        "--no-pause": Answer("a running container is always paused"),
        **_same("an image keeps its layers", "use -o FILE for one merged tree", "-s", "--squash"),
    },
    "diff": {**_LATEST, "--format": _TABLE["--format"]},
    "history": {
        **_TABLE,
        **_same("an entry is a cell, and has no id", _REMOVE, "-q", "--quiet"),
        **_same("sizes and times are always readable", "use --json for numbers", "-H", "--human"),
        "--platform": _PLATFORM,
    },
    "images": {
        **_TABLE,
        **_ALL_LISTED,
        "-n": _TABLE["--noheading"],
        "--digests": Answer("digests are always listed"),
        "--history": Answer("earlier names of images are not stored"),
        "--tree": Answer("images of one name are for one platform", "use `%container layers NAME` for its layers"),
    },
    "import": {
        **_QUIET,
        **_BY_PLATFORM,
        **_same("an imported image has no comment", "use `%container commit -m` later", "-m", "--message"),
    },
    "inspect": {
        **_LATEST,
        **_same("sizes are shown by `df`", "use `%container df`", "-s", "--size"),
        **_same("a container comes before an image of its name", "write docker://NAME for the image", "-t", "--type"),
    },
    "load": _QUIET,
    "prune": {
        **_same("unreferenced data is removed, and images with a name stay", "use `%container rmi`", "-a", "--all"),
        **_same("`prune` asks for no confirmation", _REMOVE, "-f", "--force"),
        "--filter": Answer("filters are not supported: all unreferenced data is removed"),
        "--volumes": Answer("named volumes stay", "use `%container volume prune`"),
    },
    "ps": {
        **_TABLE,
        **_ALL_LISTED,
        **_same("all containers are listed", "use --json, and choose in a program", "-l", "--latest", "-n", "--last"),
        **_same("sizes are shown by `df`", "use `%container df`", "-s", "--size"),
        **_same("there are no pods", _REMOVE, "-p", "--pod"),
        **_same("the list is shown once", "use `stats` for what runs", "-w", "--watch"),
        **_same("all containers are those of this store", _REMOVE, "--external", "--sync"),
        "--ns": Answer("`ps` does not list namespaces", "use `%container namespaces NAME`"),
    },
    "pull": {**_REGISTRY, **_BY_PLATFORM},
    "push": {
        **_REGISTRY,
        **_QUIET,
        "--compression-format": Answer("layers that are compressed stay so", "use --compress for the others"),
        "--digestfile": Answer("the digest is printed, and not written to a file"),
        **_same("an image keeps the form of its manifest", _REMOVE, "-f", "--format"),
        "--platform": _PLATFORM,
        **_same(
            "images are not signed",
            _REMOVE,
            *("--remove-signatures", "--sign-by", "--sign-by-sigstore-private-key", "--sign-passphrase-file"),
        ),
    },
    "rm": {
        **_SELECTED,
        **_same("containers have no links and no dependents", _REMOVE, "--link", "--depend"),
        **_same("containers that do not exist are ignored with -f", "use -f", "-i", "--ignore"),
        **_same("the time is an option of `stop`", "use `%container stop -t SECONDS NAME`", "-t", "--time"),
    },
    "rmi": {
        **_same("images are named", "write the names: see `images -q`", "-a", "--all"),
        **_same("images that do not exist are ignored with -f", "use -f", "-i", "--ignore"),
        "--no-prune": Answer("images have no untagged parents"),
        "--platform": _PLATFORM,
    },
    "save": {
        **_QUIET,
        "--format": Answer("the name of the file chooses the form", "end the name of a directory with a slash"),
        **_same("several images are always in one archive", _REMOVE, "-m", "--multi-image-archive"),
        "--platform": _PLATFORM,
        "--uncompressed": Answer("layers that are compressed stay so", "use --compress none for the others"),
    },
    "logs": {
        **_LATEST,
        **_same("the output of one container is shown", "write one `logs` for each", "--names"),
        "--color": Answer("the output is shown as it is"),
        "--details": Answer("a log has no attributes"),
    },
    "exec": {
        **_LATEST,
        **_same(
            "a command of a notebook has no terminal and no input",
            "use `nbcontainer exec -it NAME COMMAND` in a terminal, or a cell with --name NAME",
            *("-i", "--interactive", "-t", "--tty"),
        ),
        **_same("a command ends with the cell or the terminal that runs it", _REMOVE, "-d", "--detach"),
        "--privileged": Answer("a command has the capabilities of the container", "start that with --cap-add"),
        "--detach-keys": Answer("a command is not detached"),
        "--preserve-fds": Answer("no descriptor of this process reaches a container", "use -i"),
    },
    "cp": {
        **_same("a tar keeps owners", "use a hyphen in place of the path outside", "-a", "--archive"),
        "--overwrite": Answer("a file never replaces a directory, nor the other way round", "remove what is there"),
        **_same("a copy shows one line", _REMOVE, "-q", "--quiet", "--pause"),
    },
    "stop": _STOPPED,
    "restart": _STOPPED,
    "kill": _SELECTED,
    "wait": {
        **_LATEST,
        **_same("it waits for the end", "remove it, or use `--wait-for healthy` at the start", "--condition"),
        **_same("the end is noticed at once", _REMOVE, "-i", "--interval", "--ignore"),
    },
    "top": _LATEST,
    "stats": {
        **_LATEST,
        **_same("running containers are listed", _REMOVE, "-a", "--all"),
        **_same(
            "the form of a table cannot be changed", "use --json for a program", "--format", "--no-trunc", "--no-reset"
        ),
        **_same("the table changes each second", _REMOVE, "-i", "--interval"),
    },
    "port": _SELECTED,
}
"""By a verb and an option of the command of that name of Docker or podman, which the verb does not have: the answer."""
