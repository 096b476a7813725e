"""What the words of -v and --tmpfs mean."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.mount_option import parse_mount
from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume, size_in_bytes, target_path
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.sandbox.spec import MOUNTS_LIMIT, Mounts, NamedVolume, Tmpfs, Volume
from tests.requirements import require_plain_user

if TYPE_CHECKING:
    from pathlib import Path


PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("64m", 64 << 20),
        (" 64M ", 64 << 20),
        ("1.5g", 3 << 29),
        ("2t", 2 << 40),
        ("0.5k", 512),
        ("999999999999999", 999999999999999),
        ("8388607t", 8388607 << 40),
    ],
)
def test_a_size_in_bytes(text: str, size: int) -> None:
    """Sizes are in powers of 1024, with Docker's units."""
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1x", "1 m", "64MiB", "1e3", "0x10", ".5g", "1.g", "½", "٣", "9" * 400 + "t", "nan", "inf"]
)
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused with an example, also a number too long to be one."""
    with pytest.raises(UsageError, match="as in 64m"):
        size_in_bytes(text)


@pytest.mark.parametrize("text", ["8388608t", "16777216t", "999999999999999t", "8388607.999999999999t"])
def test_a_size_is_what_the_kernel_can_count(text: str) -> None:
    """The kernel takes sizes modulo 2^64, and 0 for no limit: such a size is refused."""
    with pytest.raises(UsageError) as raised:
        size_in_bytes(text)
    assert str(raised.value) == f"size {text!r} is too large; write less than 8388608t"


@pytest.mark.parametrize("option", ["size=8388608t", "nr_blocks=8388607t", "nr_inodes=16384t"])
def test_a_tmpfs_has_no_more_than_the_kernel_can_count(option: str) -> None:
    """Blocks are counted in bytes, and an inode has 1 KiB."""
    with pytest.raises(UsageError, match="too large; write less than"):
        parse_tmpfs(f"/t:{option}")
    parse_tmpfs("/t:size=8388607t,nr_inodes=16383t")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/data", "/data"),
        ("/data/", "/data"),
        ("//data//x/.", "/data/x"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("/process", "/process"),
        ("/device/proc", "/device/proc"),
        ("/a b:c", "/a b:c"),
        ("/ü", "/ü"),
    ],
)
def test_a_target_is_made_plain(text: str, plain: str) -> None:
    """A target is an absolute path without detours; what only begins like /proc is allowed."""
    assert target_path(text, "-v") == plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data", "is not absolute; start it with /"),
        ("", "is not absolute"),
        ("./data", "is not absolute"),
        ("/", "is /; mount below it"),
        ("//", "is /"),
        ("/a/..", "is /"),
        ("/a\0b", "NUL"),
        ("/proc", "own /proc"),
        ("/proc/1/attr", "own /proc"),
        ("//proc", "own /proc"),
        ("/./proc/", "own /proc"),
        ("/a/../proc/self", "own /proc"),
        ("/sys", "own /sys"),
        ("/sys/fs/cgroup", "own /sys"),
        ("/dev", "own /dev"),
        ("/dev/shm", "own /dev"),
    ],
)
def test_a_target_that_is_refused(text: str, words: str) -> None:
    """Relative targets, the root, and what is the container's own are refused, whichever way they are written."""
    with pytest.raises(UsageError) as raised:
        target_path(text, "-v")
    assert words in str(raised.value)
    assert "-v" in str(raised.value)
    assert raised.value.hint


def host_volume(text: str) -> Volume:
    """The volume of a host path."""
    found = parse_volume(text)
    assert isinstance(found, Volume)
    return found


def test_a_directory(tmp_path: Path) -> None:
    """SRC:DST is a writable volume, with the source's identity for the launcher to check."""
    facts = tmp_path.stat()
    found = parse_volume(f"{tmp_path}:/data")
    assert found == Volume(str(tmp_path.resolve()), "/data", False, True, facts.st_dev, facts.st_ino)


@pytest.mark.parametrize(("mode", "read_only"), [(":ro", True), (":rw", False), ("", False)])
def test_a_file_and_its_mode(tmp_path: Path, mode: str, read_only: bool) -> None:
    """A file is a volume too, read-only with `:ro`."""
    (tmp_path / "file").touch()
    found = host_volume(f"{tmp_path}/file:/etc/file{mode}")
    assert (found.directory, found.read_only, found.target) == (False, read_only, "/etc/file")


def test_a_source_is_resolved_when_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, `~` and relative paths are the notebook's at that moment: what is mounted is what they led to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = str((tmp_path / "real").resolve())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("./real", "./link", "link/../link", "~/link", f"{tmp_path}/link"):
        assert host_volume(f"{source}:/d").source == real
    (tmp_path / "real" / "in").mkdir()
    monkeypatch.chdir(tmp_path / "real" / "in")
    for source in ("..", "../", "../../link"):
        assert host_volume(f"{source}:/d").source == real
    assert host_volume(".:/d").source == f"{real}/in"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a",
            "./a",
            ":",
            "/a:",
            ":/b",
            "::",
            "/a:/b:",
            "/a:/b:ro:ro",
            "/a:/b:rx",
            "/a:/b:RO",
            "/a:/b:ro,",
            "\0:/b",
        ),
        *("/a:ro", "/", "/proc", "a b:/x", "-a:/x", ".a:/x:ro:z", "a\n:/x", "ü:/x", "a" * 200 + ":/x"),
    ],
)
def test_what_is_no_volume(text: str) -> None:
    """Words of another form are refused with the form, before anything is looked at."""
    with pytest.raises(UsageError) as raised:
        parse_volume(text)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("none", "none"),
        ("none/deeper/./", "none/deeper"),
        ("dangling", "nowhere"),
        ("dangling/below", "nowhere/below"),
        ("chain", "nowhere"),
        ("it's here", "it's here"),
        ("away", "other/gone"),
    ],
)
def test_a_source_that_is_not_there(tmp_path: Path, name: str, missing: str) -> None:
    """A missing source is not made, as Docker would as root: the error says how, and the shell's command makes it."""
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "chain").symlink_to("dangling")
    (tmp_path / "away").symlink_to(tmp_path / "other" / "gone")
    with pytest.raises(ContainerError) as raised:
        parse_volume(f"{tmp_path}/{name}:/data")
    whole = f"{tmp_path.resolve()}/{missing}"
    assert str(raised.value).startswith(f"the volume's source '{whole}' does not exist; `mkdir -p ")
    subprocess.run(raised.value.hint.strip("`"), shell=True, check=True)
    assert host_volume(f"{tmp_path}/{name}:/data").source == whole


def test_a_source_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    """The error names the path, and no `mkdir`, which would fail."""
    (tmp_path / "file").touch()
    with pytest.raises(ContainerError, match=r"/file/below': Not a directory; check the path") as raised:
        parse_volume(f"{tmp_path}/file/below:/data")
    assert "mkdir" not in str(raised.value)


def test_a_relative_source_that_is_not_there_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the directory that was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContainerError) as raised:
        parse_volume("./mydata:/data")
    assert f"{tmp_path.resolve()}/mydata' does not exist" in str(raised.value)


def test_a_source_that_may_not_be_looked_at(tmp_path: Path) -> None:
    """A source in a closed directory is an error about permissions."""
    require_plain_user()
    (tmp_path / "closed").mkdir(0o000)
    with pytest.raises(ContainerError, match="Permission denied"):
        parse_volume(f"{tmp_path}/closed/x:/data")


def test_a_link_in_a_circle_is_an_error_of_ours(tmp_path: Path) -> None:
    """A source that resolves to nothing is no traceback."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ContainerError):
        parse_volume(f"{tmp_path}/loop:/data")


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """A file's name is bytes: those that are no UTF-8 come through."""
    path = os.path.join(os.fsencode(tmp_path.resolve()), b"caf\xe9")  # noqa: PTH118 - bytes
    os.mkdir(path)  # noqa: PTH102
    assert os.fsencode(host_volume(f"{os.fsdecode(path)}:/data").source) == path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/t", Tmpfs("/t")),
        ("/t/", Tmpfs("/t")),
        ("/t:size=64m", Tmpfs("/t", 64 << 20)),
        ("/t:", Tmpfs("/t")),
        ("/t:size=1k,size=2k", Tmpfs("/t", 2048)),
        ("/t:mode=755", Tmpfs("/t", mode=0o755)),
        ("/t:mode=0700,uid=1000,gid=5", Tmpfs("/t", mode=0o700, uid=1000, gid=5)),
        ("/t:nr_inodes=1k,nr_blocks=2", Tmpfs("/t", 2 * PAGE, inodes=1024)),
        ("/t:rw,noexec,nosuid,nodev,size=65536k", Tmpfs("/t", 64 << 20, flags=("noexec",))),
        ("/t:ro,noexec,exec", Tmpfs("/t", flags=("ro",))),
        ("/t:noatime,relatime,sync,nodiratime,rprivate", Tmpfs("/t", flags=("relatime", "sync", "nodiratime"))),
        ("/t:size=10%", Tmpfs("/t", os.sysconf("SC_PHYS_PAGES") * 10 // 100 * PAGE)),
    ],
)
def test_a_tmpfs(text: str, found: Tmpfs) -> None:
    """DST and DST:size=N are memory, the kernel's default or N bytes of it."""
    assert parse_tmpfs(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "t", "/", "/proc/x", "/dev/shm", "/t:size", "/t:size=x", "/t:size=0", "/t:size=0.1", "/t:size=0%"),
        *("/t:mode", "/t:mode=8", "/t:mode=", "/t:mode=0o7", "/t:mode=17777", "/t:uid=root", "/t:uid=-1", "/t:uid="),
        *("/t:gid=4294967295", "/t:nr_inodes=0", "/t:noexec=1", "/t:suid", "/t:dev", "/t:huge=always", "/t:mpol=x"),
        *("/t:tmpcopyup", "/t:shared", "/t:nosuch", "/t:size=\u0663"),
    ],
)
def test_what_is_no_tmpfs(text: str) -> None:
    """Other options, sizes that are none, and targets that are refused, each with a hint; no size means no limit."""
    with pytest.raises(UsageError) as raised:
        parse_tmpfs(text)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        *(
            (option, {})
            for option in "z Z U cached delegated consistent private rprivate nocopy copy bind rbind".split()
        ),
        *((option, {}) for option in ("rw,z", "rw,rprivate", "exec,nosuid,nodev", "z,z")),
        *((option, {"read_only": True}) for option in ("ro", "ro,Z", "z,ro", "ro,z,U,cached,rprivate,nocopy")),
        *((option, {"slave": True}) for option in ("slave", "rslave", "z,rslave")),
        ("noexec", {"noexec": True}),
    ],
)
def test_options_of_docker_are_taken(tmp_path: Path, options: str, fields: dict[str, bool]) -> None:
    """Labels, owners and caches need nothing here; the other options set their fields."""
    assert host_volume(f"{tmp_path}:/d:{options}") == replace(host_volume(f"{tmp_path}:/d"), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("shared", "unsupported mount option 'shared'"),
        (
            "rw,rshared",
            "unsupported mount option 'rshared' in '/tmp:/d:rw,rshared'; mounts of a container do not",
        ),
        ("O", "unsupported mount option 'O'"),
        ("suid", "unsupported mount option 'suid'"),
        ("ro,rw", "'ro' and 'rw' in '/tmp:/d:ro,rw' exclude each other; remove one"),
        ("z,Z", "'z' and 'Z' in"),
        ("cached,delegated", "'cached' and 'delegated' in"),
        ("nosuch", "unknown mount option 'nosuch' in '/tmp:/d:nosuch'; write ro or rw"),
    ],
)
def test_options_that_are_refused(options: str, message: str) -> None:
    """What is not supported, excludes another one or does not exist has a message of its own."""
    with pytest.raises(UsageError) as raised:
        parse_volume(f"/tmp:/d:{options}")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("data:/d", NamedVolume("data", "/d")),
        ("a.b-c_9:/d/", NamedVolume("a.b-c_9", "/d")),
        ("data:/d:ro,nocopy", NamedVolume("data", "/d", read_only=True, copy=False)),
        ("data:/d:z,noexec", NamedVolume("data", "/d", noexec=True)),
        ("/d", NamedVolume("", "/d")),
        ("/d/../e/", NamedVolume("", "/e")),
    ],
)
def test_a_source_without_a_slash_is_a_name(text: str, volume: NamedVolume) -> None:
    """As with Docker; without a source, the volume is the container's own. No directory of that name is looked for."""
    assert parse_volume(text) == volume


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("source=data,target=/d", NamedVolume("data", "/d")),
        ("type=volume,src=data,dst=/d,ro,volume-nocopy", NamedVolume("data", "/d", read_only=True, copy=False)),
        ("type=volume,target=/d", NamedVolume("", "/d")),
        ("src=data,destination=/d,volume-subpath=a//b/", NamedVolume("data", "/d", subpath="a/b")),
        ("src=d,dst=/d,volume-label=a=b,volume-label=c", NamedVolume("d", "/d", labels=(("a", "b"), ("c", "")))),
        ("src=d,dst=/d,volume-driver=local,readonly=false", NamedVolume("d", "/d")),
        ("type=tmpfs,target=/d", Tmpfs("/d")),
        ("type=tmpfs,destination=/d,tmpfs-size=1m,tmpfs-mode=700,ro", Tmpfs("/d", 1 << 20, 0o700, flags=("ro",))),
        ("TYPE=tmpfs,Target=/d,consistency=cached", Tmpfs("/d")),
        ('type=tmpfs,"target=/a,b"', Tmpfs("/a,b")),
        ("type=tmpfs,target=/d,readonly=TRUE", Tmpfs("/d", flags=("ro",))),
    ],
)
def test_a_mount(text: str, mount: NamedVolume | Tmpfs) -> None:
    """The keys of Docker's --mount, with their other spellings, in any order, with quotes as in CSV."""
    assert parse_mount(text) == mount


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ("", {}),
        (",readonly", {"read_only": True}),
        (",ro=1,bind-recursive=readonly", {"read_only": True}),
        (",rw=false", {"read_only": True}),
        (",bind-propagation=rprivate,bind-nonrecursive=false,relabel=shared,chown", {}),
        (",bind-propagation=rslave", {"slave": True}),
    ],
)
def test_a_bind_mount(tmp_path: Path, keys: str, fields: dict[str, bool]) -> None:
    """It is what `-v` is, with the same fields."""
    same = replace(host_volume(f"{tmp_path}:/d"), **fields)  # type: ignore[arg-type]
    assert parse_mount(f"type=bind,source={tmp_path},target=/d{keys}") == same


NAMES = "use up to 128 letters, digits, '_', '.' and '-'; for a directory of the host"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--mount is empty"),
        ('"', "invalid --mount"),
        ("type=bind,source=/tmp", "--mount type=bind,source=/tmp: missing target; write it as in"),
        ("type=bind,target=/d", "--mount type=bind,target=/d: missing source"),
        ("type=bind,source=/no/such,target=/d", "the volume's source '/no/such' does not exist"),
        ("type=bind,source=/tmp,target=d", "the target 'd' of --mount is not absolute"),
        ("type=tmpfs,target=/proc", "cannot mount --mount at '/proc': the container needs its own"),
        ("type=tmpfs,target=/d,source=x", "a mount with type=tmpfs has no source"),
        ("type=tmpfs,target=/d,tmpfs-size=x", "invalid size 'x'"),
        ("type=tmpfs,target=/d,tmpfs-mode=9", "invalid permissions in 'tmpfs-mode=9'"),
        ("type=tmpfs,target=/d,volume-nocopy", "the key 'volume-nocopy' in --mount is for type=volume; remove it"),
        ("type=bind,source=/tmp,target=/d,tmpfs-size=1", "the key 'tmpfs-size' in --mount is for type=tmpfs"),
        ("type=bind,source=/tmp,target=/d,bind-propagation=rshared", "unsupported mount option 'rshared'"),
        ("type=bind,source=/tmp,target=/d,bind-propagation=ro", "unknown propagation 'ro'"),
        ("type=bind,source=/tmp,target=/d,bind-nonrecursive", "a bind mount without the mounts below it"),
        ("type=bind,source=/tmp,target=/d,bind-recursive=writable", "unsupported value 'writable' of bind-recursive"),
        ("type=image,source=x,target=/d", "unsupported type 'image' in --mount; "),
        ("type=x,target=/d", "unknown type 'x' in --mount; choose one of bind, volume, tmpfs"),
        ("source=d,target=/d,readonly=maybe", "invalid value 'maybe' of the key 'readonly' in --mount"),
        ("source=d,target=/d,readonly=", "the key 'readonly' in --mount has no value"),
        ("source=d,target=", "the key 'target' in --mount has no value"),
        ("source=d,target=/d,volume-driver=nfs", "unsupported volume driver 'nfs'"),
        ("source=d,target=/d,volume-opt=type=nfs", "unsupported key 'volume-opt'"),
        ("source=d,target=/d,volume-subpath=../x", "invalid volume-subpath '../x'"),
        ("source=d,target=/d,volume-subpath=/x", "invalid volume-subpath '/x'"),
        ("source=/tmp,target=/d", f"invalid volume name '/tmp'; {NAMES}, add type=bind"),
        ("source=a/b,target=/d", f"invalid volume name 'a/b'; {NAMES}, write ./a/b"),
        (f"source={'a' * 129},target=/d", f"invalid volume name '{'a' * 129}'; use up to 128 letters"),
        ("source=d,target=/d,nosuch=1", "unknown key 'nosuch' in --mount; the keys are bind-nonrecursive"),
    ],
)
def test_a_mount_that_is_refused(text: str, message: str) -> None:
    """One line names what is wrong, and a hint says what to write."""
    with pytest.raises((UsageError, ContainerError)) as raised:
        parse_mount(text)
    assert str(raised.value).startswith(message)
    assert raised.value.hint


def test_mounts_of_all_options_are_sorted_by_their_kind() -> None:
    """`-v`, `--mount` and `--tmpfs` add up."""
    options = request_of(
        parse(
            RUN, ["-v", "a:/a", "--mount", "type=tmpfs,dst=/b", "--tmpfs", "/c", "--mount", "src=d,dst=/d", "busybox"]
        )
    ).options
    assert options.mounts == Mounts(
        tmpfs=(Tmpfs("/b"), Tmpfs("/c")), named=(NamedVolume("a", "/a"), NamedVolume("d", "/d"))
    )


def test_each_target_once() -> None:
    """Two mounts on one target are refused, be they volumes or memory; a mount below another is not."""
    Mounts((Volume("/a", "/x"), Volume("/a", "/x/y")), (Tmpfs("/z"),))
    cases: list[tuple[tuple[Volume, ...], tuple[Tmpfs, ...]]] = [
        ((Volume("/a", "/x"), Volume("/b", "/x")), ()),
        ((Volume("/a", "/x"),), (Tmpfs("/x"),)),
        ((), (Tmpfs("/x"), Tmpfs("/x"))),
    ]
    for volumes, memories in cases:
        with pytest.raises(UsageError, match="two mounts have the target /x"):
            Mounts(volumes, memories)


def test_not_more_mounts_than_descriptors_travel() -> None:
    """Each volume may be a descriptor on its way: more of them than a message takes are refused with another way."""
    Mounts(tuple(Volume("/a", f"/x{number}") for number in range(MOUNTS_LIMIT)))
    with pytest.raises(UsageError, match=r"too many volumes: 241 \(at most 240\); mount a directory above them"):
        Mounts(tuple(Volume("/a", f"/x{number}") for number in range(MOUNTS_LIMIT + 1)))


def test_a_read_only_volume_has_no_later_mounts_of_the_host() -> None:
    """They would be writable: `:ro` is for what is there when the cell starts."""
    mount = parse_mount("type=bind,source=/tmp,target=/d,ro,bind-propagation=slave")
    for volume in (parse_volume("/tmp:/d:ro,rslave"), mount):
        assert isinstance(volume, Volume)
        with pytest.raises(UsageError, match=r"volume at /d is read-only, and later mounts .*; remove rslave or ro"):
            Mounts(volumes=(volume,))
