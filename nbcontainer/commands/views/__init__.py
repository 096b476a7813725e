"""What verbs return: values that read well as text, as a page, and as JSON, and that have Python fields."""

from __future__ import annotations

from nbcontainer.commands.views import listings
from nbcontainer.commands.views.changes import Changes
from nbcontainer.commands.views.listings import (
    CellRow,
    ContainerRow,
    ImageRow,
    ProblemRow,
    StepRow,
    UsageRow,
    VolumeRow,
    short,
)
from nbcontainer.commands.views.simple import Document, Lines, Note
from nbcontainer.rendering.quantities import size
from nbcontainer.rendering.table import Table

__all__ = (
    "CellRow",
    "Changes",
    "ContainerRow",
    "Document",
    "ImageRow",
    "Lines",
    "Note",
    "ProblemRow",
    "StepRow",
    "Table",
    "UsageRow",
    "VolumeRow",
    "listings",
    "short",
    "size",
)
