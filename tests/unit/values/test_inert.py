"""Data from a container is shown without anything that could run or load something."""

from __future__ import annotations

import base64
import json

import pytest
from markdown_it import MarkdownIt

from nbcontainer.values import markup
from nbcontainer.values.inert import BUNDLE, HTML, JSON, LATEX, MARKDOWN, PICTURES, SVG, TEXT, Refused, bundle

SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=https://example.org/spy.png>",
    "<img srcset='https://example.org/spy.png 2x'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='JaVa\tScript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=x></object><embed src=x>",
    "<form action=https://example.org><input name=password><button>x</button></form>",
    "<div style='position:fixed;background:url(https://example.org/spy)'>x</div>",
    "<style>body{display:none}</style>",
    "<link rel=stylesheet href=https://example.org/spy.css>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href=https://example.org>",
    "<video poster=https://example.org/spy></video>",
    "<body onload=alert(1)>",
    "<div id=x class=jp-Button data-commandlinker-command=terminal:create-new>x</div>",
]
FORBIDDEN = (
    "<script",
    "alert(",
    "onerror",
    "onload",
    "javascript:",
    "example.org/spy",
    "<iframe",
    "<object",
    "<embed",
    "<form",
    "<input",
    "<style",
    "style=",
    "<link",
    "<meta",
    "<base",
    "<svg",
    "data-",
)


@pytest.mark.parametrize("mime", [HTML, MARKDOWN])
@pytest.mark.parametrize("text", SCRIPTS)
def test_markup_is_inert(mime: str, text: str) -> None:
    """Scripts, handlers, styles, forms and what is loaded from elsewhere are removed; the text beside them stays."""
    shown = bundle(mime, f"before\n\n{text}\n\nafter".encode())
    for kind in (HTML, MARKDOWN):
        if kind in shown:
            html = str(shown[kind]).lower()
            assert "before" in html
            assert [word for word in FORBIDDEN if word in html and word != "alert("] == []


@pytest.mark.parametrize(
    "text", ["[x](javascript:a)", "![x](https://example.org/s.png)", "<script>1</script>", "`\n\n[x](javascript:a)\n`"]
)
def test_markdown_has_no_way_of_its_own(text: str) -> None:
    """It is rendered here, and then is HTML like any other; a frontend that renders it again finds no link in it."""
    shown = bundle(MARKDOWN, text.encode())
    again = MarkdownIt("commonmark", {"html": True})
    again.validateLink = lambda _: True  # type: ignore[method-assign, assignment]
    for html in (shown[HTML], again.render(shown[MARKDOWN])):
        assert "href" not in html
        assert "src" not in html
        assert "<script" not in html


def test_harmless_markdown_stays_markdown() -> None:
    """Some frontends show Markdown alone."""
    assert bundle(MARKDOWN, b"# a\n")[MARKDOWN] == "# a\n"


def test_markup_that_is_harmless_stays() -> None:
    """Tables, links and pictures in the data itself."""
    text = (
        '<table><tr><td colspan="2">x</td></tr></table><a href="https://example.org">y</a>'
        '<img src="data:image/png;base64,AA==">'
    )
    html = bundle(HTML, text.encode())[HTML]
    assert 'colspan="2"' in html
    assert 'href="https://example.org"' in html
    assert "noopener" in html
    assert "data:image/png" in html
    table = bundle(MARKDOWN, b"# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")[HTML]
    assert "<h1>Title</h1>" in table
    assert "<td>2</td>" in table


def test_svg_is_an_image() -> None:
    """In an `<img>`, browsers run no script of it, and load nothing."""
    shown = bundle(SVG, b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>')
    assert shown[HTML].startswith('<img src="data:image/svg+xml;base64,')
    assert SVG not in shown
    assert "alert" not in shown[HTML]


@pytest.mark.parametrize("mime", PICTURES)
def test_a_picture_is_as_it_is(mime: str) -> None:
    """A page decodes it, and shows nothing if it is something else."""
    assert bundle(mime, b"x")[mime] == "eA=="


def test_text_json_and_latex_are_shown_as_they_are() -> None:
    """A page does not run them."""
    assert bundle(TEXT, b"<b>") == {TEXT: "<b>"}
    assert bundle(LATEX, b"$x$")[LATEX] == "$x$"
    assert bundle(JSON, b'{"a": [1]}')[JSON] == {"a": [1]}
    for data in (b"{", b"NaN", b"[" * 201 + b"]" * 201, b"[" * 100_000):
        with pytest.raises(ValueError, match="it is"):
            bundle(JSON, data)
    with pytest.raises(ValueError, match="not UTF-8"):
        bundle(TEXT, b"\xff")


@pytest.mark.parametrize(
    "mime",
    ["application/javascript", "text/javascript", "application/vnd.jupyter.widget-view+json", "x", "", "text/css"],
)
def test_every_other_type_is_refused_in_one_line(mime: str) -> None:
    """The line says how to show it all the same."""
    with pytest.raises(Refused, match="--trust-output"):
        bundle(mime, b"1")
    assert bundle(mime, b"1", trust=True)


@pytest.mark.parametrize(
    ("mime", "data", "value"),
    [
        ("image/png", b"\0\1", "AAE="),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
        ("text/markdown", b"# a", "# a"),
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/geo+json", b"[]", []),
        ("application/json", b"null", None),
        ("application/octet-stream", b"a", "YQ=="),
    ],
)
def test_a_trusted_bundle_has_the_data_as_it_is(mime: str, data: bytes, value: object) -> None:
    """Text as text, JSON as a value, all else in base64, and always a line of plain text."""
    found = bundle(mime, data, trust=True)
    assert found[mime] == value
    assert isinstance(found["text/plain"], str)


@pytest.mark.parametrize(
    ("mime", "data"),
    [
        ("application/json", b"{"),
        ("application/json", b"[NaN]"),
        ("application/json", b"[1e999]"),
        ("application/json", b'{"a": "\\ud83d"}'),
        ("application/json", b'{"\\udc00": 1}'),
        ("application/json", b"[" * 201 + b"]" * 201),
        ("application/json", b"[" * 100_000),
        ("text/html", b"\xff"),
    ],
)
def test_what_is_not_what_its_type_says_is_no_bundle(mime: str, data: bytes) -> None:
    """It is an error, and not something that a frontend chokes on."""
    with pytest.raises(ValueError, match=r"."):
        bundle(mime, data, trust=True)


def test_a_message_can_hold_all_json_that_is_shown() -> None:
    """A pair of surrogates is one character; a half of one, or a number that is none, would end the kernel's shell."""
    assert bundle(JSON, b'["\\ud83d\\ude00", 1e308]')[JSON] == ["\U0001f600", 1e308]
    with pytest.raises(ValueError, match="one of its texts has a lone surrogate"):
        bundle(JSON, b'[["\\ud83d"]]')
    with pytest.raises(ValueError, match="one of its numbers is too large"):
        bundle(JSON, b"[-1e999]")
    with pytest.raises(ValueError, match="lone surrogate"):
        bundle(BUNDLE, b'{"text/\\udc00": "MQ=="}')


def forms(**parts: str) -> bytes:
    """One thing in several forms, as a Python cell sends it. `html` and so on are short for types."""
    names = {"html": HTML, "text": TEXT, "svg": SVG, "script": "application/javascript"}
    encoded = {names[name]: base64.b64encode(part.encode()).decode() for name, part in parts.items()}
    return json.dumps(encoded).encode()


def test_forms_are_shown_together_and_each_is_inert() -> None:
    """HTML is sanitized, a script is left out, and the text is the one that was sent."""
    shown = bundle(BUNDLE, forms(text="T", html="<b onclick=x()>T</b><script>1</script>", script="alert(1)"))
    assert shown == {TEXT: "T", HTML: "<b>T</b>"}


@pytest.mark.parametrize(
    "data",
    [
        forms(script="alert(1)"),
        b"{}",
        b"[]",
        b'{"text/html": 1}',
        b'{"text/html": "*"}',
        json.dumps({BUNDLE: base64.b64encode(b"{}").decode()}).encode(),
    ],
)
def test_forms_that_cannot_be_shown_are_refused(data: bytes) -> None:
    """A bundle without a form that is inert, or that is not a bundle, is an error."""
    with pytest.raises(ValueError, match=r"."):
        bundle(BUNDLE, data)


def test_forms_do_not_nest_without_an_end() -> None:
    """A bundle of bundles ends in an error and not in a recursion error."""
    data = b"{}"
    for _ in range(30):
        data = json.dumps({BUNDLE: base64.b64encode(data).decode()}).encode()
    with pytest.raises(ValueError, match="nest"):
        bundle(BUNDLE, data)


@pytest.mark.parametrize(
    ("mime", "text"),
    [
        (HTML, "<div>" * 80_000),
        (HTML, "".join(f"<b title={number}>" for number in range(40_000))),
        (HTML, "<p>" + "".join(f"<b title={number}>" for number in range(3_000)) + "<p>x" * 20_000),
        (MARKDOWN, "[a]: " + "x" * 200_000 + "\n\n" + "[a] " * 50_000),
    ],
    ids=["depth", "attributes", "formatting elements", "references"],
)
def test_a_text_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch, mime: str, text: str) -> None:
    """Its time is quadratic, or its result is: another process begins it, and is ended."""
    monkeypatch.setattr(markup, "_SECONDS", 1)
    with pytest.raises(ValueError, match="too much time or memory"):
        bundle(mime, text.encode())


@pytest.mark.parametrize(("mime", "unit"), [(HTML, "<td>{}</td>"), (MARKDOWN, "*a* `b` {}\n\n")])
def test_a_long_text_is_shown_as_a_short_one_is(mime: str, unit: str) -> None:
    """Another process makes it inert, in the same way."""
    short, long = (
        bundle(mime, (unit.format("x") * count + unit.format(SCRIPTS[1])).encode())[HTML] for count in (10, 10_000)
    )
    assert long.count("x") == 10_000 - 10 + short.count("x")
    assert long.endswith(short[len(short) // 2 :])
    assert "onerror" not in long
