"""The questions of the course to predict, as data: what is right, and an explanation of each answer."""

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
                "it is root with 11 of some 40 capabilities, and they count in its own namespaces alone",
                "它是 root，但四十来个权能里只有 11 个，而且只在自己的命名空间里有效",
            ),
        },
    ),
}
"""The questions before each chapter, by their names."""
