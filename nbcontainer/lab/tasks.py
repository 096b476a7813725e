"""The tasks of the course, as data: what a student makes in the laboratory, and an explanation of each mistake."""

from __future__ import annotations

from dataclasses import dataclass

from nbcontainer.lab.questions import Words


@dataclass(frozen=True)
class Condition:
    """A shell script that succeeds in the laboratory's directory if the condition holds, and the text if not."""

    script: str
    wrong: Words


@dataclass(frozen=True)
class Task:
    """What a student makes in the laboratory: its conditions, in the order in which they are met."""

    conditions: tuple[Condition, ...]
    done: Words


_MOUNTED = "grep -q ' {} ' /proc/self/mountinfo"
_PILE = "grep ' /lab/pile .* - overlay ' /proc/self/mountinfo | tail -n 1"

IN_SIGHT = Condition(
    "test -d /lab",
    Words(
        "/lab is not in sight, because pivot_root has switched the root: call lab.reset(), do the exercise again, and "
        "check it before lab.pivot_root",
        "看不到 /lab，因为 pivot_root 已经换了根：用 lab.reset() 重新开始，再做一遍，并在 lab.pivot_root 之前检查",
    ),
)
"""The condition before those of each task: all of them look at the laboratory's directory."""

TASKS = {
    "root.tiny": Task(
        (
            Condition(
                "test -d tiny || test ! -d /tiny",
                Words(
                    "tiny is at /tiny: make it at /lab/tiny, where relative paths begin",
                    "tiny 建在了 /tiny：要建在 /lab/tiny，相对路径从 /lab 开始",
                ),
            ),
            Condition(
                "test -d tiny",
                Words("/lab/tiny does not exist: make the directory", "/lab/tiny 不存在：先建立这个目录"),
            ),
            Condition(
                "test -x tiny/bin/sh",
                Words(
                    "/lab/tiny/bin/sh does not exist or cannot be executed: copy /bin/busybox to tiny/bin/sh",
                    "/lab/tiny/bin/sh 不存在或不能执行：把 /bin/busybox 复制成 tiny/bin/sh",
                ),
            ),
            Condition(
                "test \"$(chroot tiny /bin/sh -c 'echo runs')\" = runs",
                Words(
                    "tiny/bin/sh does not run below the new root: if it is a link, its target must lie in tiny too",
                    "tiny/bin/sh 在新的根下面运行不了：如果它是链接，目标也必须在 tiny 里面",
                ),
            ),
            Condition(
                "test -d tiny/old",
                Words(
                    "tiny/old does not exist: pivot_root needs a directory for the old root",
                    "tiny/old 不存在：pivot_root 需要一个放旧根的目录",
                ),
            ),
            Condition(
                _MOUNTED.format("/lab/tiny"),
                Words(
                    "/lab/tiny is not a mount point: bind it on itself",
                    "/lab/tiny 不是挂载点：把它绑定挂载到它自己上面",
                ),
            ),
            Condition(
                "! grep -E ' (/|/lab|/lab/tiny) ' /proc/self/mountinfo | grep -q ' shared:'",
                Words(
                    "the mount at or above /lab/tiny is shared, which pivot_root refuses: lab.propagation('/', "
                    "'private')",
                    "/lab/tiny 或它上面的挂载是 shared 的，pivot_root 会拒绝：先 lab.propagation('/', 'private')",
                ),
            ),
        ),
        Words(
            "pivot_root would accept it: the smallest root has one file", "pivot_root 会接受它：最小的根只要一个文件"
        ),
    ),
    "overlay.two": Task(
        (
            Condition(
                f'test -n "$({_PILE})"',
                Words(
                    "there is no overlay at /lab/pile: make the directory, then lab.mount_overlay(…, merged='pile')",
                    "/lab/pile 上没有 overlay：先建目录，再 lab.mount_overlay(…, merged='pile')",
                ),
            ),
            Condition(
                f"{_PILE} | grep -q 'lowerdir=[^,]*:'",
                Words(
                    "the overlay has one lower layer: pass a list of two, the topmost first",
                    "overlay 只有一个下层：传一个有两项的列表，最上面的写在最前",
                ),
            ),
            Condition(
                'test "$(cat pile/greeting)" = new',
                Words(
                    "pile/greeting does not read 'new': the layer with the new file must be the first of the list",
                    "pile/greeting 的内容不是 new：有新文件的那一层要写在列表最前",
                ),
            ),
            Condition(
                f"{_PILE} | grep -Eq 'lowerdir=([^:,]*/)?change/?:([^:,]*/)?base/?([:,]|$)'",
                Words(
                    "pile/greeting reads 'new', but not because change is above base: mount these two, and write "
                    "nothing",
                    "pile/greeting 的内容是 new，但不是因为 change 在 base 上面：把这两层挂载起来，什么也不用写",
                ),
            ),
            Condition(
                f"{_PILE} | grep -q upperdir=",
                Words(
                    "the overlay has no upper directory, so it is read-only: pass upper and work",
                    "overlay 没有 upper，所以是只读的：把 upper 和 work 也传进去",
                ),
            ),
        ),
        Words(
            "that is how an image with two layers is mounted, with a write layer above them",
            "有两层的镜像就是这样挂载的，最上面再加一个可写层",
        ),
    ),
    "overlay.hide": Task(
        (
            Condition(
                f'test -n "$({_PILE})"',
                Words(
                    "there is no overlay at /lab/pile: do the exercise before", "/lab/pile 上没有 overlay：先做上一题"
                ),
            ),
            Condition(
                "grep -q old base/greeting && grep -q new change/greeting",
                Words(
                    "base or change was modified: start again with the cell of exercise 2.1, and delete the "
                    "file in pile only",
                    "base 或 change 被改动了：从练习 2.1 的单元格重新开始，只在 pile 里删除",
                ),
            ),
            Condition(
                "test ! -e pile/greeting",
                Words("pile/greeting is still visible: delete it there", "pile/greeting 还看得见：在那里删除它"),
            ),
            Condition(
                f"upper=$({_PILE} | sed -n 's/.*upperdir=\\([^,]*\\).*/\\1/p'); test -c \"$upper/greeting\"",
                Words(
                    "pile does not show greeting, but upper has no whiteout of it: mount the overlay of exercise 2.1, "
                    "and delete the file in pile",
                    "pile 里看不到 greeting，但 upper 里没有它的 whiteout：挂载练习 2.1 的 overlay，"
                    "再在 pile 里删除这个文件",
                ),
            ),
        ),
        Words("one whiteout in upper hides the file of both layers", "upper 里的一个 whiteout 遮住了两层里的文件"),
    ),
    "volume.read-only": Task(
        (
            Condition(
                f"! {_MOUNTED.format('/lab/course-data')}",
                Words(
                    "course-data is the mount point: the source comes first, then the target; begin with "
                    "lab.umount('course-data')",
                    "挂载点成了 course-data：先写来源，再写目标；先执行 lab.umount('course-data')",
                ),
            ),
            Condition(
                f"! {_MOUNTED.format('/lab/box')}",
                Words(
                    "the mount is at /lab/box and covers the whole root: lab.umount('box'), and bind at box/data",
                    "挂载在了 /lab/box 上，遮住了整个根：先 lab.umount('box')，再绑定到 box/data",
                ),
            ),
            Condition(
                "test -d box/data",
                Words("/lab/box/data does not exist: make the mount point", "/lab/box/data 不存在：先建立挂载点"),
            ),
            Condition(
                _MOUNTED.format("/lab/box/data"),
                Words(
                    "/lab/box/data is not a mount: lab.bind(SOURCE, TARGET)",
                    "/lab/box/data 上没有挂载：lab.bind(来源, 目标)",
                ),
            ),
            Condition(
                'test -e course-data/table.csv && test "$(stat -c %d:%i course-data)" = "$(stat -c %d:%i box/data)"',
                Words(
                    "box/data does not show course-data/table.csv: the source comes first, then the target",
                    "box/data 里看不到 course-data/table.csv：先写来源，再写目标",
                ),
            ),
            Condition(
                "! touch box/data/probe || { rm -f box/data/probe; false; }",
                Words(
                    "a file can be made in box/data: unmount it and bind it with read_only=True",
                    "在 box/data 里还能建文件：卸载它，再用 read_only=True 绑定",
                ),
            ),
        ),
        Words("that is -v course-data:/data:ro", "这就是 -v course-data:/data:ro"),
    ),
    "volume.remove": Task(
        (
            Condition(
                "test -d course-data",
                Words(
                    "/lab/course-data does not exist: do exercise 3.1 first, in the same laboratory",
                    "/lab/course-data 不存在：先在同一个实验室里做练习 3.1",
                ),
            ),
            Condition(
                "test -s course-data/table.csv",
                Words(
                    "course-data/table.csv is gone: box was removed before its volume was unmounted; start again with "
                    "the cell of exercise 3.1",
                    "course-data/table.csv 没了：卷还没卸载，box 就被删除了；从练习 3.1 的单元格重新开始",
                ),
            ),
            Condition(
                "test ! -e box",
                Words(
                    "/lab/box is still there: unmount box/data first, then remove box",
                    "/lab/box 还在：先卸载 box/data，再删除 box",
                ),
            ),
            Condition(
                "! grep -q ' /lab/[^ ]*/data ' /proc/self/mountinfo",
                Words(
                    "box has another name now, and the data is still mounted in it: unmount it, then remove box",
                    "box 只是换了名字，数据还挂载在里面：先卸载，再删除那个目录",
                ),
            ),
        ),
        Words("the root is gone and the data remains", "根文件系统没了，数据还在"),
    ),
    "commit.archive": Task(
        (
            Condition(
                "test -e app.tar || test ! -e merged/app.tar",
                Words(
                    "app.tar is inside merged, because the shell was there: write /lab/app.tar, and remove that one",
                    "app.tar 写到 merged 里面去了，因为 shell 当时在那里：写成 /lab/app.tar，并删掉那一个",
                ),
            ),
            Condition(
                "test -s app.tar", Words("/lab/app.tar does not exist or is empty", "/lab/app.tar 不存在或是空的")
            ),
            Condition(
                "! gunzip -c < app.tar",
                Words(
                    "/lab/app.tar is compressed: leave out the letter z, the exercise is about the bare archive",
                    "/lab/app.tar 是压缩过的：去掉字母 z，这里要的是不压缩的归档",
                ),
            ),
            Condition(
                "tar -tf app.tar",
                Words(
                    "/lab/app.tar is not a bare tar archive: write it with tar -cf, without a letter for compression",
                    "/lab/app.tar 不是不压缩的 tar 归档：用 tar -cf 写，不加压缩的字母",
                ),
            ),
            Condition(
                "tar -tf app.tar | grep -qE '^(\\./)?bin/sh$'",
                Words(
                    "bin/sh is not at the top of the archive: pack from inside, tar -C merged -cf app.tar .",
                    "归档的顶层没有 bin/sh：要从目录里面打包，tar -C merged -cf app.tar .",
                ),
            ),
            Condition(
                "tar -tf app.tar | grep -qE '^(\\./)?srv/app.sh$'",
                Words(
                    "srv/app.sh is missing: it is a change of the container, so pack merged, not lower",
                    "缺少 srv/app.sh：它是容器的改动，所以要打包 merged，而不是 lower",
                ),
            ),
            Condition(
                "tar -tf app.tar | grep -qE '^(\\./)?etc/passwd$'",
                Words(
                    "etc/passwd is missing: the archive has a part of merged, so pack all of it, with a dot",
                    "缺少 etc/passwd：归档里只有 merged 的一部分，要用一个点把它全部打包",
                ),
            ),
            Condition(
                "! tar -tf app.tar | grep -qE '^(\\./)?etc/shells$'",
                Words(
                    "etc/shells was deleted in the container and is in the archive: pack merged, not lower and upper",
                    "etc/shells 在容器里已删除，却还在归档里：要打包 merged，而不是 lower 加 upper",
                ),
            ),
        ),
        Words("any container tool can import this archive", "任何容器工具都能导入这个归档"),
    ),
}
"""The tasks, by their names."""
