"""Markdown notes: what is rendered, and what cannot get into a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.figures.markdown import NoteElement, NoteNode, note_markup, parse_note

ALLOWED = {"div": {"class"}, "a": {"href", "rel"}, "ol": {"start"}}


class _Elements(HTMLParser):
    """Collects the elements and attributes of HTML as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(node: NoteNode) -> Iterator[NoteElement]:
    if isinstance(node, NoteElement):
        yield node
        for child in node.children:
            yield from elements(child)


def is_harmless(text: str) -> bool:
    for tag, attributes in _Elements(note_markup(text)).found:
        if tag in ("script", "img", "iframe", "style", "object", "svg") or attributes.keys() - ALLOWED.get(tag, set()):
            return False
        if not re.match(r"(https?://|mailto:)", attributes.get("href") or "https://", re.IGNORECASE):
            return False
    return True


def test_markdown_becomes_elements() -> None:
    text = (
        "# Why\n\na **b** *c* ~~d~~ `e<` [f](https://example.org/?a=1&b=2)\nnext\\\nlast\n\n"
        "3. x\n4. y\n\n- z\n\n> q\n\n---\n"
    )
    assert note_markup(text) == (
        '<div class="note"><h3>Why</h3>'
        "<p>a <strong>b</strong> <em>c</em> <s>d</s> <code>e&lt;</code> "
        '<a href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow">f</a>\nnext<br>last</p>'
        '<ol start="3"><li>x</li><li>y</li></ol><ul><li>z</li></ul>'
        "<blockquote><p>q</p></blockquote><hr></div>"
    )


def test_code_and_tables_become_elements() -> None:
    assert note_markup("```python\nx < 1\n```") == '<div class="note"><pre><code>x &lt; 1\n</code></pre></div>'
    table = note_markup("| a | b |\n|---|:-:|\n| 1 | 2 |")
    assert "<thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody>" in table


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("# a\n\n## b\n\n### c\n\n# d", ["h3", "h4", "h5", "h3"]),
        ("#### a\n\n###### b\n\n## c", ["h3", "h4", "h3"]),
        ("# a\n\n## b\n\n### c\n\n#### d\n\n##### e", ["h3", "h4", "h5", "h6", "h6"]),
    ],
)
def test_headings_begin_below_the_title_and_skip_no_level(text: str, levels: list[str]) -> None:
    assert [each.tag for node in parse_note(text) for each in elements(node)] == levels


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <b onclick=alert(1)>b</b>",
        "<!-- <script>alert(1)</script> -->",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](&#106;avascript:alert(1))",
        "[a](java\tscript:alert(1))",
        "<javascript:alert(1)>",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x) [b](file:///etc/passwd) [c](//example.org) [d](/experiments/1) [e](#x)",
        "[a]\n\n[a]: javascript:alert(1)",
        "![a](https://example.org/pixel.png)",
        "![a][b]\n\n[b]: https://example.org/pixel.png",
        "[![a](https://example.org/pixel.png)](https://example.org)",
        '[a](https://example.org "onclick=alert(1)")',
        '[a](https://example.org/"onmouseover="alert(1))',
        "```<script>\n</code></pre><script>alert(1)</script>\n```",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "| <script> |\n|---|\n| </td><script>x</script> |",
    ],
)
def test_scripts_and_images_stay_text(text: str) -> None:
    assert is_harmless(text)
    assert "onclick" not in str([attributes for _, attributes in _Elements(note_markup(text)).found])


@given(st.text(st.sampled_from("<>[]()!&#;:/\\\"'`*_~|- \nahttpsjvcrimg=."), max_size=60))
def test_any_text_is_harmless(text: str) -> None:
    assert is_harmless(text)
    assert is_harmless(f"[a]({text}) ![b]({text}) <{text}>")


@pytest.mark.parametrize("text", ["> " * 30_000, "- " * 30_000, "*a _b " * 10_000, "[" * 60_000, "**a *b " * 9_000])
def test_text_with_very_many_marks_is_kept(text: str) -> None:
    """The parser would take seconds for some of them, and the tree would be too deep for others."""
    shown = "".join(_texts(parse_note(f"before\n\n{text}")))
    assert shown.startswith("before")
    assert text.strip()[-1] in "ab[>-"
    assert text[0] in ">-" or shown.endswith(text.strip())


def test_nested_emphasis_is_cut_but_its_text_stays() -> None:
    text = "".join(f"*{n} _{n} " for n in range(100)) + "x" + "".join(f" {n}_ {n}*" for n in reversed(range(100)))
    shown = parse_note(text)
    assert "".join(_texts(shown)).replace(" ", "").startswith("0011")
    assert sum(1 for node in shown for _ in elements(node)) < 60


def _texts(nodes: list[NoteNode]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        else:
            yield from _texts(node.children)
