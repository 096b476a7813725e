"""Docker's and podman's options and commands: each is supported, or has a truthful answer."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from nbcontainer.cli import _RUN as PROGRAM_RUN
from nbcontainer.commands.containers import VERBS, unknown
from nbcontainer.commands.docker_answers import OPTION_ANSWERS, RUN_ANSWERS, VERB_ANSWERS, Answer
from nbcontainer.commands.grammar import parse, similar
from nbcontainer.commands.run import RUN
from nbcontainer.errors import UsageError
from nbcontainer.notebook.job_cells import OPTION as JOB
from nbcontainer.notebook.live_cells import EXEC
from tests.requirements import require

DOCKER_RUN = """
    --add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent
    --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c
    --cpu-shares --cpus --cpuset-cpus --cpuset-mems -d --detach --detach-keys --device --device-cgroup-rule
    --device-read-bps --device-read-iops --device-write-bps --device-write-iops --disable-content-trust --dns
    --dns-opt --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --gpus --group-add
    --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout
    --help -h --hostname --init -i --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation
    --kernel-memory -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory
    --memory-reservation --memory-swap --memory-swappiness --mount --name --net --net-alias --network --network-alias
    --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged -p --publish -P
    --publish-all --pull -q --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy
    --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t --tty --ulimit --use-api-socket -u --user --userns
    --uts -v --volume --volume-driver --volumes-from -w --workdir
""".split()
"""The options of `docker run` (docs.docker.com, reference/cli/docker/container/run, Docker 28)."""

DOCKER_COMMANDS = """
    attach build builder buildx checkpoint commit compose config container context cp create diff events exec export
    history image images import info init inspect kill load login logout logs manifest network node pause plugin port
    ps pull push rename restart rm rmi run save scout search secret service stack start stats stop swarm system tag
    top trust unpause update version volume wait
""".split()


def check_option(flag: str) -> None:
    """Raises unless `run` has the option, or says in one line that it is not supported, with what to do."""
    if flag in RUN.spelled:
        return
    with pytest.raises(UsageError) as raised:
        parse(RUN, [*([f"{flag}=x"] if flag.startswith("--") else [flag, "x"]), "busybox"])
    answer = RUN_ANSWERS[flag]
    assert str(raised.value) == f"run: unsupported option '{flag}': {answer.problem}; {answer.hint}"
    assert "did you mean" not in str(raised.value)


@pytest.mark.parametrize("flag", DOCKER_RUN)
def test_every_option_of_docker_is_taken_or_answered(flag: str) -> None:
    """Nothing is only unknown, and nothing has another option as its answer by its spelling alone."""
    check_option(flag)


def test_every_option_of_podman_is_taken_or_answered() -> None:
    """Those that the podman of this machine lists."""
    require("podman", available=shutil.which("podman") is not None, why="podman is not installed")
    text = subprocess.run(["podman", "run", "--help"], capture_output=True, text=True, check=True).stdout
    flags = re.findall(r"^ +(?:(-\w), )?(--[a-z0-9-]+)", text, re.MULTILINE)
    assert len(flags) > 80
    for flag in sorted({flag for pair in flags for flag in pair if flag}):
        check_option(flag)


@pytest.mark.parametrize("name", DOCKER_COMMANDS)
def test_every_command_of_docker_is_there_or_answered(name: str) -> None:
    """A command without a verb says so, and never names a verb that is only spelled like it."""
    if name in VERBS or name in ("run", EXEC.name):
        return
    answer = VERB_ANSWERS[name]
    assert str(unknown(name)) == f"unsupported verb '{name}': {answer.problem}; {answer.hint}"


def test_every_command_of_podman_is_there_or_answered() -> None:
    """Those that the podman of this machine lists."""
    require("podman", available=shutil.which("podman") is not None, why="podman is not installed")
    text = subprocess.run(["podman", "--help"], capture_output=True, text=True, check=True).stdout
    names = re.findall(
        r"^  ([a-z-]+) ", text.partition("Available Commands:")[2].partition("Options:")[0], re.MULTILINE
    )
    assert len(names) > 40
    assert [name for name in names if name not in {*VERBS, "run", EXEC.name, "help", *VERB_ANSWERS}] == []


DOCKER_OPTIONS = {
    "commit": "-a --author -c --change -m --message -p --pause --no-pause",
    "cp": "-a --archive -L --follow-link -q --quiet",
    "export": "-o --output",
    "history": "--format -H --human --no-trunc --platform -q --quiet",
    "images": "-a --all --digests -f --filter --format --no-trunc -q --quiet --tree",
    "import": "-c --change -m --message --platform",
    "inspect": "-f --format -s --size --type",
    "kill": "-s --signal",
    "load": "-i --input --platform -q --quiet",
    "logs": "--details -f --follow --since -n --tail -t --timestamps --until",
    "prune": "-a --all -f --force --filter --volumes",
    "ps": "-a --all -f --filter --format -n --last -l --latest --no-trunc -q --quiet -s --size",
    "pull": "-a --all-tags --disable-content-trust --platform -q --quiet",
    "push": "-a --all-tags --disable-content-trust --platform -q --quiet",
    "restart": "-s --signal -t --timeout --time",
    "rm": "-f --force -l --link -v --volumes",
    "rmi": "-f --force --no-prune --platform",
    "save": "-o --output --platform",
    "stats": "-a --all --format --no-stream --no-trunc",
    "stop": "-s --signal -t --timeout --time",
}
"""The options of Docker's commands that have a verb here (docs.docker.com, Docker 28); `prune` is `system prune`."""


def unanswered(verb: str, flag: str) -> str:
    """What a verb says about an option of another program; empty if it has the option, or a true answer."""
    command = VERBS[verb].command
    if flag in command.spelled:
        return ""
    try:
        parse(command, [f"{flag}=x"] if flag.startswith("--") else [flag, "x"])
    except UsageError as error:
        return "" if str(error).startswith(f"{verb}: unsupported option '{flag}': ") else str(error)
    return "taken without a meaning"


@pytest.mark.parametrize("verb", DOCKER_OPTIONS)
def test_every_option_of_dockers_commands_is_taken_or_answered(verb: str) -> None:
    """Nothing is only unknown, and nothing is taken for a misspelling of another option."""
    assert [text for flag in DOCKER_OPTIONS[verb].split() if (text := unanswered(verb, flag))] == []


def test_every_option_of_podmans_commands_is_taken_or_answered() -> None:
    """Those that the podman of this machine lists for commands that have a verb here."""
    require("podman", available=shutil.which("podman") is not None, why="podman is not installed")
    wrong, seen = [], 0
    for verb in VERBS:
        text = subprocess.run(["podman", verb, "--help"], capture_output=True, text=True, check=False).stdout
        if f"podman {verb} [" not in text:
            continue  # podman has no such command, and shows the help of all
        flags = {
            flag for pair in re.findall(r"^ +(?:(-\w), )?(--[a-z0-9-]+)", text, re.MULTILINE) for flag in pair if flag
        }
        seen += len(flags)
        wrong += [text for flag in sorted(flags) if (text := unanswered(verb, flag))]
    assert seen > 100
    assert wrong == []


OF_VERBS = [answer for answers in OPTION_ANSWERS.values() for answer in answers.values()]


@pytest.mark.parametrize("answer", [*RUN_ANSWERS.values(), *VERB_ANSWERS.values(), *dict.fromkeys(OF_VERBS)])
def test_an_answer_names_what_there_is(answer: Answer) -> None:
    """Options and verbs in an answer exist, apart from those of other programs."""
    options = {*PROGRAM_RUN.spelled, *JOB.flags, "--out", "--version", "--wait-for"}
    for verb in VERBS.values():
        options |= verb.command.spelled.keys()
    for flag in re.findall(
        r"(?<![\w-])(--[a-z-]+|-[a-z])\b", f"{answer.problem} {answer.hint}".replace("-it", "-i -t")
    ):
        assert flag in options, answer
    for verb in re.findall(r"(?<!%)%container ([a-z]+)", answer.hint):
        assert verb in {*VERBS, EXEC.name}


def test_an_answer_is_for_a_name() -> None:
    """No answer is for an empty word, as in `nbcontainer ""`: that verb is unknown."""
    assert [name for name in (*VERB_ANSWERS, *RUN_ANSWERS) if not name] == []
    assert str(unknown("", "nbcontainer")).startswith("unknown verb ''; see `nbcontainer --help`")


def test_no_answer_is_for_an_option_that_there_is() -> None:
    """An answer that is no longer true goes. Some are for commands that lack an option of another command."""
    supported = RUN_ANSWERS.keys() & PROGRAM_RUN.spelled.keys()
    assert supported <= {"-i", "--interactive", "-t", "--tty", "-q", "--quiet"}
    assert VERB_ANSWERS.keys() & VERBS.keys() == set()


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("--gpu", ""),
        ("--cpu", "--cpus"),
        ("--nmae", "--name"),
        ("--volum", "--volume"),
        ("--bpus", ""),
        ("--xyz", ""),
        ("-x", ""),
        ("--", ""),
    ],
)
def test_a_suggestion_is_a_misspelling(word: str, found: str) -> None:
    """The first letter is the same, so that an unrelated neighbour is never suggested."""
    assert similar(word, RUN.spelled) == found


@pytest.mark.parametrize(
    ("word", "verb"), [("imags", "images"), ("stpo", "stop"), ("tops", "top"), ("hop", ""), ("xop", "")]
)
def test_a_verb_is_suggested_for_a_misspelling(word: str, verb: str) -> None:
    """The same holds for verbs."""
    assert similar(word, (*VERBS, "run")) == verb


@pytest.mark.parametrize(
    ("words", "removes"),
    [
        *(("--rm", True), ("--rm=true", True), ("--rm=True", True), ("--rm=1", True), ("--rm=t", True)),
        *(("--rm=false", False), ("--rm=0", False), ("--rm=F", False)),
    ],
)
def test_a_flag_may_have_a_value(words: str, removes: bool) -> None:
    """As with Docker: true or false, also by a letter or a digit."""
    assert parse(RUN, [words, "busybox"]).has("rm") == removes


@pytest.mark.parametrize(
    "words",
    [
        *(["--ipc", "private"], ["--ipc=private"], ["--restart", "no"], ["--restart=no"], ["--cgroupns=private"]),
        *(["--sig-proxy"], ["--sig-proxy=true"], ["--sig-proxy=1"], ["--privileged=false"], ["--privileged=F"]),
        *(["--disable-content-trust"], ["--oom-kill-disable=0"], ["--systemd=false"], ["--publish-all=false"]),
    ],
)
def test_a_value_that_changes_nothing_is_taken(words: list[str]) -> None:
    """A default of Docker or podman that holds here, too, is accepted, and the word after it is not the image."""
    assert parse(RUN, [*words, "busybox", "true"]) == parse(RUN, ["busybox", "true"])


@pytest.mark.parametrize(
    "words",
    [
        *(["--ipc", "host"], ["--ipc=host"], ["--ipc"], ["--ipc="], ["--restart", "always"], ["--cgroupns=host"]),
        *(["--sig-proxy=false"], ["--sig-proxy=x"], ["--privileged"], ["--privileged=true"], ["--privileged="]),
    ],
)
def test_a_value_that_would_change_something_is_answered(words: list[str]) -> None:
    """Every other value is an error: an option is never ignored."""
    with pytest.raises(UsageError, match="unsupported option"):
        parse(RUN, [*words, "busybox", "true"])


def test_options_in_one_argument_are_answered_one_by_one() -> None:
    """`-dit` names the first one that is not supported."""
    with pytest.raises(UsageError, match="unsupported option '-d': in a terminal, no process would own the job"):
        parse(RUN, ["-dit", "busybox"])
    with pytest.raises(UsageError, match="unsupported option '-d'"):
        parse(PROGRAM_RUN, ["-itd", "busybox"])
