"""The template of a cell: made once for cells that are alike, and anew for any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cells.template import Attached, make_template
from nbcontainer.containers.options import RunOptions, run_options
from nbcontainer.oci.documents import Image, ImageConfig
from nbcontainer.oci.reference import HOST
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.spec import Mounts, ProcLevel, Tmpfs, Values
from nbcontainer.sandbox.userns.idmap import IdMap, MapKind, Range

if TYPE_CHECKING:
    from nbcontainer.sandbox.plan import PlanTemplate

IMAGE = Image(ImageConfig(cmd=("sh",)), (), "", name="busybox")


@dataclass
class Launcher:
    """Stands in for a launcher: what a template needs of one."""

    idmap: IdMap
    proc: ProcLevel = ProcLevel.OWN
    helper: bool = False


class Engine:
    """Stands in for an engine: one launcher, and the last template."""

    def __init__(self) -> None:
        self.launcher = Launcher(IdMap(MapKind.SINGLE, (Range(0, 0, 1),), (Range(0, 0, 1),)))
        self.last_template: tuple[object, PlanTemplate] | None = None

    def launcher_for(self, _: object) -> Launcher:
        return self.launcher


def _nowhere(_: bytes) -> None:
    pass


def made(engine: Any, image: Image = IMAGE, name: str = "", attached: Attached | None = None, **fields: Any) -> Any:
    """The template of a request with these fields; `values` are those of its streams."""
    streams = Streams(_nowhere, _nowhere, values=fields.pop("values", None))
    request = Request(**{"script": "true", "options": RunOptions(), **fields})
    return make_template(engine, request, image, streams, attached or Attached(request.options.mounts), name)


def test_cells_that_are_alike_have_one_template() -> None:
    """The body is a file, so another body makes no other plan: the same object is compared at once."""
    engine = Engine()
    first = made(engine)
    assert made(engine, script="false") is first
    assert made(engine, options=run_options({"user": ""})) is first


DIFFERENT: dict[str, dict[str, Any]] = {
    "own interpreter": {"script": "#!/bin/sh"},
    "command": {"command": ("cat",)},
    "options": {"options": run_options({"user": "1000"})},
    "labels": {"options": run_options({"labels": (("a", "b"),)})},
    "image": {"image": replace(IMAGE, config=ImageConfig(env=("A=1",)))},
    "host name": {"name": "dev"},
    "mounts": {"attached": Attached(Mounts(tmpfs=(Tmpfs("/t"),)))},
    "shared network": {"attached": Attached(Mounts(), Network.NONE, 4)},
    "values": {"values": Values(("a",))},
    "driver": {"driver": "pass"},
}


@pytest.mark.parametrize("fields", DIFFERENT.values(), ids=DIFFERENT)
def test_a_cell_that_differs_has_its_own_template(fields: dict[str, Any]) -> None:
    """After a cell that is not like it, each cell has the plan that it has without a cell before."""
    engine = Engine()
    made(engine)
    assert made(engine, **fields) == made(Engine(), **fields)
    assert made(engine) == made(Engine())


def test_another_launcher_makes_another_template() -> None:
    """A launcher that was started anew can see another /proc."""
    engine = Engine()
    first = made(engine)
    engine.launcher.proc = ProcLevel.OUTER
    assert made(engine) != first


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (replace(IMAGE, name=HOST), RunOptions()),
        (IMAGE, run_options({"network": Network.PRIVATE})),
        (IMAGE, run_options({"dns": ("192.0.2.1",)})),
    ],
    ids=["host", "private network", "dns"],
)
def test_what_is_looked_up_on_this_machine_is_looked_up_for_each_cell(image: Image, options: RunOptions) -> None:
    """The notebook's environment and /etc/resolv.conf change while it runs."""
    engine = Engine()
    first = made(engine, image, options=options)
    assert engine.last_template is None
    assert made(engine, image, options=options) is not first
