"""Platforms: what --platform says, and which image of several is taken."""

from __future__ import annotations

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.oci import platforms
from nbcontainer.oci.platforms import Platform

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", AMD64),
        ("amd64", AMD64),
        ("x86_64", AMD64),
        ("LINUX/AArch64", ARM64),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("armhf", Platform("linux", "arm", "v7")),
        ("linux", platforms.host()),
    ],
)
def test_a_platform_is_read(text: str, platform: Platform) -> None:
    """`--platform` takes OCI's words, uname's, and the architecture alone."""
    assert platforms.parse(text) == platform


@pytest.mark.parametrize("text", ["", "linux/", "linux/a/b/c", "windows/amd64", "linux/../x"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    """Anything else, and systems whose images cannot run here, are errors."""
    with pytest.raises(UsageError, match="--platform"):
        platforms.parse(text)


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/amd64", "linux/arm64"], "linux/arm64", 1),
        (["linux/arm64/v8"], "linux/arm64", 0),
        (["linux/arm64"], "linux/arm64/v8", 0),
        (["linux/amd64", "linux/amd64"], "linux/amd64", 0),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64/v3"], "linux/amd64", None),
        (["linux/amd64"], "linux/amd64/v3", 0),
        (["linux/amd64/v3", "linux/amd64/v1"], "linux/amd64", 1),
        (["linux/amd64/v1", "linux/amd64/v4", "linux/amd64/v2"], "linux/amd64/v3", 2),
        (["linux/arm64/8"], "linux/arm64", 0),
        (["linux/arm64/v9"], "linux/arm64", None),
        (["linux/arm/7"], "linux/arm/v7", 0),
        (["linux/arm"], "linux/arm/v7", 0),
        (["linux/arm/v7"], "linux/arm64", None),
        (["linux/s390x"], "linux/amd64", None),
        ([], "linux/amd64", None),
    ],
)
def test_the_best_platform_is_chosen(offered: list[str], wanted: str, chosen: int | None) -> None:
    """The exact variant comes first, then what runs on the machine; nothing else is taken."""
    pairs = [(platforms.parse(text), key) for key, text in enumerate(offered)]
    assert platforms.choose(pairs, platforms.parse(wanted)) == chosen


@pytest.mark.parametrize(
    ("architecture", "variant", "wanted"),
    [
        ("x86_64", "", "amd64"),
        ("X86-64", "v1", "amd64"),
        ("aarch64", "v8", "arm64"),
        ("armhf", "", "arm/v7"),
        ("armel", "", "arm/v6"),
        ("i386", "", "386"),
    ],
)
def test_a_document_may_have_other_names(architecture: str, variant: str, wanted: str) -> None:
    """An index of another tool can name the architecture as uname or Debian does: containerd takes it, too."""
    assert platforms.rank(Platform("Linux", architecture, variant), platforms.parse(f"linux/{wanted}")) == 0
