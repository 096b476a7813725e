"""The defaults of cells that a person sets as traits."""

from __future__ import annotations

import pytest
from traitlets import TraitError
from traitlets.config import Config

from nbcontainer.commands.grammar import Words
from nbcontainer.notebook.magics import ContainerMagics


@pytest.fixture
def magics() -> ContainerMagics:
    """The magics without a notebook, with an image for all cells."""
    found = ContainerMagics()
    found.image = "busybox"
    return found


def defaults_of(magics: ContainerMagics) -> dict[str, list[str]]:
    """Return the options that a cell without arguments has."""
    words = Words()
    magics._defaults.apply(words)
    return words.options


def test_a_cell_has_only_the_defaults_that_are_set(magics: ContainerMagics) -> None:
    """Nothing is added to a cell if no trait was changed."""
    assert defaults_of(magics) == {}


def test_a_trait_that_changes_between_cells_counts_for_the_next_one(magics: ContainerMagics) -> None:
    """Each cell has the values of its time, although they are not read again for each cell."""
    traits = vars(type(magics)).keys() & {"network", "timeout"}
    assert traits == {"network", "timeout"}
    defaults_of(magics)
    magics.set_trait("network", "host")
    assert defaults_of(magics) == {"network": ["host"]}
    magics.set_trait("network", "private")
    magics.set_trait("timeout", 2.5)
    assert defaults_of(magics) == {"network": ["private"], "timeout": ["2.5"]}
    magics.set_trait("network", type(magics).class_traits()["network"].default_value)
    assert defaults_of(magics) == {"timeout": ["2.5"]}


def test_a_list_that_grows_in_place_counts_for_the_next_cell(magics: ContainerMagics) -> None:
    """A list can be changed without an assignment, which no observer sees."""
    defaults_of(magics)
    magics.trait_values()["volumes"].append("/srv:/srv:ro")
    assert defaults_of(magics) == {"volume": ["/srv:/srv:ro"]}


@pytest.mark.parametrize(
    ("name", "good", "wrong"),
    [
        ("volumes", ["/srv:/srv"], ["a"]),
        ("volumes", ["/srv:/srv"], ["/srv:/data", "/srv:/proc"]),
        ("volumes", ["/srv:/srv"], ["/srv:/data", "/usr:/data"]),
        ("volumes", ["/srv:/srv"], [3]),
        ("timeout", 2.5, -1.0),
        ("timeout", 2.5, "x"),
        ("cache", "always", "maybe"),
        ("network", "host", "a b"),
        ("output_limit", 100, -1),
        ("language", "zh", "xx"),
    ],
)
def test_a_wrong_value_leaves_the_old_one(magics: ContainerMagics, name: str, good: object, wrong: object) -> None:
    """A value that no cell can have is an error of one line with the trait's name, and changes nothing."""
    magics.update_config(Config({"ContainerMagics": {name: good}}))
    before = defaults_of(magics)
    with pytest.raises(TraitError, match=name) as raised:
        magics.update_config(Config({"ContainerMagics": {name: wrong}}))
    assert "\n" not in str(raised.value)
    assert getattr(magics, name) == good
    assert defaults_of(magics) == before
    magics.update_config(Config({"ContainerMagics": {"footer": True}}))
    with pytest.raises(TraitError, match=name):
        setattr(magics, name, wrong)
    assert getattr(magics, name) == good


def test_the_directory_of_a_volume_can_be_made_later(magics: ContainerMagics) -> None:
    """A setting is checked for its form; whether a directory exists counts when a cell runs."""
    magics.set_trait("volumes", ["/nonexistent/directory:/data"])
    assert defaults_of(magics) == {"volume": ["/nonexistent/directory:/data"]}
