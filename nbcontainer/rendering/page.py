"""HTML without scripts, readable in light and dark pages, and where a site removes styles.

Colours come from JupyterLab's variables, from those of VS Code's themes, or else from the browser's colour scheme.
Paper is white: there all have the colours of light pages. GitHub removes style sheets and style attributes: there the
`align` attributes and the text beside each sign remain.
"""

from __future__ import annotations

from nbcontainer.rendering.text import visible

CLASS = "nbcontainer"

NO_MATH = "tex2jax_ignore mathjax_ignore"
"""Classes of elements in which pages do not take `$…$` for a formula (MathJax 2 and 3): shell commands have dollars."""

_LIGHT = ("#59636e", "#d1d9e0", "#1a7f37", "#9a6700", "#d1242f", "#0969da")
_DARK = ("#9198a1", "#3d444d", "#3fb950", "#d29922", "#f85149", "#4493f8")
_NAMES = {
    "dim": ("jp-ui-font-color2", "vscode-descriptionForeground"),
    "line": ("jp-border-color2", "vscode-panel-border"),
    "good": ("jp-success-color1", "vscode-gitDecoration-addedResourceForeground"),
    "warn": ("jp-warn-color1", "vscode-gitDecoration-modifiedResourceForeground"),
    "bad": ("jp-error-color1", "vscode-errorForeground"),
    "bar": ("jp-brand-color1", "vscode-textLink-foreground"),
}
"""By kind: the variables of JupyterLab and of VS Code, which has colours for text on its own background."""

_INK = "#1f2328"


def colour(kind: str) -> str:
    """Return a colour of a kind in `_NAMES` for drawings in a page: that of its style sheet, or else of light pages."""
    return f"var(--nbc-{kind},{dict(zip(_NAMES, _LIGHT, strict=True))[kind]})"


def _themed(kind: str, fallback: str) -> str:
    lab, code = _NAMES[kind]
    return f"var(--{lab},var(--{code},{fallback}))"


def _colours(fallbacks: tuple[str, ...]) -> str:
    pairs = zip(_NAMES, fallbacks, strict=True)
    return "".join(f"--nbc-{kind}:{_themed(kind, fallback)};" for kind, fallback in pairs)


def _marks() -> str:
    """Return the colours of marks on JupyterLab's light pages, whose own orange on white has a contrast of 2.7."""
    pairs = zip(_NAMES, _LIGHT, strict=True)
    return "".join(f"--nbc-{kind}:{light};" for kind, light in pairs if kind in ("good", "warn", "bad"))


def _paper() -> str:
    """Return the theme's variables with the colours of light pages: a dark theme would print light text on white."""
    pairs = zip(_NAMES.values(), _LIGHT, strict=True)
    return f"--jp-ui-font-color1:{_INK};" + "".join(f"--{lab}:{light};" for (lab, _), light in pairs)


STYLE = (
    f".{CLASS}{{{_colours(_LIGHT)}color:inherit}}"
    f"@media(prefers-color-scheme:dark){{.{CLASS}{{{_colours(_DARK)}}}}}"
    f"[data-jp-theme-light=true] .{CLASS}{{{_marks()}}}"
    f"@media print{{.{CLASS}{{{_paper()}color:{_INK}}}}}"
    f".{CLASS} table{{color:inherit;border-collapse:collapse;margin:0;border:0;table-layout:auto}}"
    f".{CLASS} table :is(th,td){{text-align:left;vertical-align:top;padding:.15em 1.2em .15em 0}}"
    f".{CLASS} table :is(th,td){{border:0;max-width:60em}}"
    f".{CLASS} table th{{color:var(--nbc-dim);font-weight:normal;border-bottom:1px solid var(--nbc-line)}}"
    f".{CLASS} table tr{{background:none!important}}"
    f".{CLASS} .dim{{color:var(--nbc-dim)}}.{CLASS} .good{{color:var(--nbc-good)}}"
    f".{CLASS} .warn{{color:var(--nbc-warn)}}.{CLASS} .bad{{color:var(--nbc-bad)}}"
    f".{CLASS} .bar{{display:block;height:3px;margin-top:2px;border-radius:2px;background:var(--nbc-bar)}}"
    f"@media print{{.{CLASS} table :is(th,td){{padding-right:.6em;font-size:.8em}}"
    f".{CLASS} td code{{font-size:1em!important}}}}"
    f".{CLASS} .unit{{white-space:nowrap}}"
    f".{CLASS} ul{{list-style:none!important;margin:0!important;padding-left:1.3em!important}}"
    f".{CLASS} :is(div,p)+ul{{padding-left:0!important}}"
    f".{CLASS} :is(summary,li>span){{white-space:pre-wrap;overflow-wrap:anywhere}}"
    f".{CLASS} summary{{cursor:pointer}}"
)


def escape(text: str) -> str:
    """Return text as HTML for an element or an attribute. Unprintable characters are escaped, as on a terminal."""
    from html import escape as escaped  # its table of entities takes a millisecond of each start

    return escaped(visible(text))


def span(text: str, kind: str = "", *, tip: str = "") -> str:
    """Return text as a <span> with a class of `STYLE` and a tooltip, or as it is if it has neither."""
    attributes = (f' class="{kind}"' if kind else "") + (f' title="{escape(tip)}"' if tip else "")
    return f"<span{attributes}>{escape(text)}</span>" if attributes else escape(text)


def page(content: str) -> str:
    """Return HTML as the output of a cell, with its style sheet."""
    return f'<div class="{CLASS} {NO_MATH}"><style>{STYLE}</style>{content}</div>'


def line(content: str) -> str:
    """Return HTML as an output of one line, without a style sheet."""
    return f'<div class="{NO_MATH}">{content}</div>'
