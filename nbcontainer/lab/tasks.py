"""The questions and tasks of the course, as data: what is right, and an explanation of each mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Words:
    """A text in both languages of the course."""

    english: str
    chinese: str


@dataclass(frozen=True)
class Question:
    """A question to predict. `answers` explains each answer, right or wrong, by its letter."""

    right: str
    answers: Mapping[str, Words]


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


QUESTIONS = {
    "root.predict": Question(
        "b",
        {
            "a": Words(
                "chroot changes where paths begin, and nothing else: an open descriptor still leads to the old root",
                "chroot 只改变路径的起点，别的都不变：一个已打开的描述符仍然通向旧的根",
            ),
            "b": Words(
                "an open descriptor leads out of a chroot; pivot_root lets you unmount the old root",
                "已打开的描述符可以走出 chroot；用 pivot_root 才能把旧的根卸载掉",
            ),
            "c": Words(
                "paths are closed: /home/alice is looked up below the new root, where it does not exist",
                "走路径是不行的：/home/alice 会在新的根下面查找，而那里没有它",
            ),
        },
    ),
    "overlay.predict": Question(
        "c",
        {
            "a": Words(
                "lower is read-only for the overlay: the image never changes",
                "对 overlay 来说 lower 是只读的：镜像永远不变",
            ),
            "b": Words(
                "upper has no copy of a file before it is changed, and a deletion must be noted in it",
                "文件被修改之前 upper 里没有它的副本；而删除也必须在 upper 里留下记录",
            ),
            "c": Words(
                "upper gets a mark, the whiteout, that hides the file of lower",
                "upper 里会出现一个标记（whiteout），它遮住 lower 里的文件",
            ),
        },
    ),
    "volume.predict": Question(
        "a",
        {
            "a": Words(
                "it is the same directory at two places, so rm deletes the data of the host",
                "这是同一个目录出现在两个地方，所以 rm 删掉的就是主机上的数据",
            ),
            "b": Words(
                "a bind mount copies nothing: there is no second file that could remain",
                "绑定挂载什么也不复制：没有第二份文件可以留下来",
            ),
            "c": Words(
                "rm cannot remove the mount point itself, but it has removed what is in it before it finds that out",
                "rm 删不掉挂载点本身，但在发现这一点之前，里面的东西已经删光了",
            ),
        },
    ),
    "commit.predict": Question(
        "b",
        {
            "a": Words(
                "upper has the changes alone: without lower there is no /bin/sh",
                "upper 里只有改动：没有 lower，就没有 /bin/sh",
            ),
            "b": Words(
                "merged is what the container sees: lower with all changes, and without what was deleted",
                "merged 就是容器看到的样子：lower 加上全部改动，并且不含被删除的文件",
            ),
            "c": Words(
                "lower is the image from before: the changes are missing",
                "lower 是改动之前的镜像：缺少改动",
            ),
        },
    ),
    "confine.predict": Question(
        "c",
        {
            "a": Words(
                "root of the container is not root of the host, but it may do a lot in its own namespaces: look at its "
                "capabilities",
                "容器里的 root 不是主机的 root，但它在自己的命名空间里仍能做不少事：看看它的权能",
            ),
            "b": Words(
                "the user namespace makes it root of its own namespaces alone: the host's files belong to other ids",
                "用户命名空间让它只在自己的命名空间里是 root：主机上的文件属于别的 id",
            ),
            "c": Words(
                "it is root with 13 of some 40 capabilities, and they count in its own namespaces alone",
                "它是 root，但四十来个权能里只有 13 个，而且只在自己的命名空间里有效",
            ),
        },
    ),
}
"""The questions before each chapter, by their names."""

_MOUNTED = "grep -q ' {} ' /proc/self/mountinfo"

TASKS = {
    "root.tiny": Task(
        (
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
        ),
        Words(
            "pivot_root would accept it: the smallest root has one file", "pivot_root 会接受它：最小的根只要一个文件"
        ),
    ),
    "overlay.two": Task(
        (
            Condition(
                "grep -q ' /lab/pile .* - overlay ' /proc/self/mountinfo",
                Words(
                    "there is no overlay at /lab/pile: make the directory, then lab.mount_overlay(…, merged='pile')",
                    "/lab/pile 上没有 overlay：先建目录，再 lab.mount_overlay(…, merged='pile')",
                ),
            ),
            Condition(
                "grep ' /lab/pile ' /proc/self/mountinfo | grep -q 'lowerdir=[^,]*:'",
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
                "grep ' /lab/pile ' /proc/self/mountinfo | grep -q upperdir=",
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
                "grep -q ' /lab/pile .* - overlay ' /proc/self/mountinfo",
                Words(
                    "there is no overlay at /lab/pile: do the exercise before", "/lab/pile 上没有 overlay：先做上一题"
                ),
            ),
            Condition(
                "test ! -e pile/greeting",
                Words("pile/greeting is still visible: delete it there", "pile/greeting 还看得见：在那里删除它"),
            ),
            Condition(
                "grep -rq old base/greeting && test -e change/greeting",
                Words(
                    "a lower layer has lost its file: delete the file in pile only, then start again with lab.reset()",
                    "下层的文件不见了：只能在 pile 里删除；用 lab.reset() 重新开始",
                ),
            ),
        ),
        Words("one whiteout in upper hides the file of both layers", "upper 里的一个 whiteout 遮住了两层里的文件"),
    ),
    "volume.read-only": Task(
        (
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
                "test -e course-data/table.csv && test -e box/data/table.csv",
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
                "test ! -e box",
                Words(
                    "/lab/box is still there: unmount box/data first, then remove box",
                    "/lab/box 还在：先卸载 box/data，再删除 box",
                ),
            ),
            Condition(
                "test -s course-data/table.csv",
                Words(
                    "course-data/table.csv is gone: box was removed before its volume was unmounted",
                    "course-data/table.csv 没了：卷还没卸载，box 就被删除了",
                ),
            ),
        ),
        Words("the root is gone and the data remains", "根文件系统没了，数据还在"),
    ),
    "commit.archive": Task(
        (
            Condition(
                "test -s app.tar", Words("/lab/app.tar does not exist or is empty", "/lab/app.tar 不存在或是空的")
            ),
            Condition(
                "tar -tf app.tar",
                Words("/lab/app.tar is not a tar archive", "/lab/app.tar 不是 tar 归档"),
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
