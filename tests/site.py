"""The built documentation site as data: its pages, and what each page links to and loads."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from tests.documents import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOADS = {"img": "src", "script": "src", "link": "href", "source": "srcset", "iframe": "src", "object": "data"}
_URL = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


@dataclass
class Page(HTMLParser):
    """One page: the anchors that it has, the targets that it links to, the files that it loads, and its language."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    language: str = ""
    drawings: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element is for."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.drawings += tag == "svg" and values.get("role") == "img"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "html":
            self.language = values.get("lang", "")
        elif tag in _LOADS and _LOADS[tag] in values:
            self.loads.append(values[_LOADS[tag]])


def read(text: str) -> Page:
    """A page of its text."""
    page = Page()
    page.feed(text)
    return page


def build(directory: Path) -> Path:
    """The site in `directory`: the first test process that asks builds it. A warning fails."""
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "index.html").exists():
            done = subprocess.run(
                [sys.executable, "-m", "docs.build", str(directory)],
                cwd=PROJECT,
                capture_output=True,
                text=True,
                check=False,
            )
            (directory / "status").write_text(f"{done.returncode}\n{done.stderr}")
    return directory


def broken(site: Path) -> list[str]:
    """The links of all pages and the files that they load, if they are not in the site, or lack the anchor."""
    pages = {path: read(path.read_text()) for path in site.rglob("*.html")}
    return [
        f"{path.relative_to(site)}: {target}"
        for path, page in pages.items()
        for target in (*page.links, *page.loads)
        if not _is_external(target) and not _leads_somewhere(path, target, pages)
    ]


def _is_external(target: str) -> bool:
    return bool(urllib.parse.urlsplit(target).scheme) or target.startswith("//")


def _leads_somewhere(path: Path, target: str, pages: dict[Path, Page]) -> bool:
    parts = urllib.parse.urlsplit(target)
    file = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
    anchor = urllib.parse.unquote(parts.fragment)
    return file.exists() and (not anchor or file not in pages or anchor in pages[file].anchors)


def external_loads(site: Path) -> list[str]:
    """What pages and style sheets load from another host."""
    found = []
    for path in site.rglob("*.html"):
        found += [f"{path.name}: {target}" for target in read(path.read_text()).loads if _is_remote(target)]
    for path in site.rglob("*.css"):
        found += [f"{path.name}: {one or two}" for one, two in _URL.findall(path.read_text()) if _is_remote(one or two)]
    return found


def _is_remote(target: str) -> bool:
    return target.startswith(("http:", "https:", "//"))


def external_links(site: Path) -> Iterator[str]:
    """The addresses outside of the site that its pages link to."""
    for path in site.rglob("*.html"):
        yield from filter(_is_external, read(path.read_text()).links)


def is_address(target: str) -> bool:
    """Whether a link is an https address with a host name, without blanks, or a mail address."""
    parts = urllib.parse.urlsplit(target)
    host = re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
    return parts.scheme == "mailto" or (parts.scheme == "https" and bool(host) and not re.search(r"[\s<>]", target))
