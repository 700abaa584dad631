"""Parsing YAML to plain data with lines."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.config.document import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b11", 3),
        ("0o17", 15),
        ("017", 15),
        ("-0", 0),
        ("+7", 7),
        ("08", 8.0),
        ("true", True),
        ("Off", False),
        ("no", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("inf", "inf"),
        ("1.2.3", "1.2.3"),
        ("y", "y"),
        ("<<", "<<"),
    ],
)
def test_parse_scalars(text: str, value: object) -> None:
    document = parse(f"a: {text}\n")
    assert document.flaws == []
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


def test_parse_infinities_and_nan() -> None:
    values = parse("[.inf, -.INF, .nan]").data
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


def test_parse_records_lines_of_keys_and_items() -> None:
    document = parse("# first\na: 1\nb:\n  - x\n  - y: 2\n    z: 3\n")
    assert document.lines == {(): 2, ("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "y"): 5, ("b", 1, "z"): 6}


def test_parse_expands_anchors_and_merge_keys() -> None:
    document = parse(
        "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\n"
        "one: {<<: *base, b: 9}\nboth: {<<: [*base, *more]}\nsame: *base\n"
    )
    assert document.flaws == []
    assert document.data["one"] == {"a": 1, "b": 9}
    assert document.data["both"] == {"a": 1, "b": 2, "c": 4}
    assert document.data["same"] == {"a": 1, "b": 2}
    assert document.data["same"] is not document.data["base"]
    assert document.lines["one", "a"] == 1
    assert document.lines["one", "b"] == 3


def test_exponential_aliases_are_refused() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, inner in zip("bcdefgh", "abcdefg", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{inner}'] * 10)}]\n"
    [flaw] = parse(text).flaws
    assert "too large" in flaw.message


def nested(first: str, next_: str, count: int) -> str:
    """Lines of which each uses the anchor of the line before."""
    lines = [f"a0: &a0 {first}", *(f"a{i}: &a{i} {next_.replace('@', f'*a{i - 1}')}" for i in range(1, count))]
    return "\n".join(lines) + "\n"


NINE = ", ".join(["@"] * 9)


@pytest.mark.parametrize(
    "text",
    [
        nested("{x: 1}", f"{{<<: [{NINE}]}}", 60),
        nested("{}", f"{{<<: [{NINE}]}}", 60),
        nested("[]", f"[{NINE}]", 60),
        nested("{x: 1}", "{<<: @, a: @, b: @, c: @}", 60),
        nested("{x: 1}", f"{{<<: [{NINE}], y: [{NINE}]}}", 60),
    ],
    ids=["merges", "merges of nothing", "aliases", "merges and aliases", "both"],
)
def test_too_large_expansion_is_refused(text: str) -> None:
    [flaw] = parse(text).flaws
    assert "too large" in flaw.message
    assert flaw.line is not None


@pytest.mark.parametrize("next_", ["[@]", "{x: @}", "{<<: @}"])
def test_too_deep_aliases_are_refused_with_line(next_: str) -> None:
    [flaw] = parse(nested("{x: 1}", next_, 300)).flaws
    assert flaw.line is not None
    assert "nested more than 100 levels deep" in flaw.message


@pytest.mark.parametrize("text", ["x" * 1_000_001, "- \n" * 100_001], ids=["characters", "values"])
def test_too_long_texts_are_refused(text: str) -> None:
    document = parse(text)
    assert document.data is None
    assert "too large" in document.flaws[0].message


def test_many_aliases_of_short_lists_are_read() -> None:
    text = nested("[1, 2, 3]", "[@, @]", 8)
    assert parse(text).flaws == []


def test_collection_with_tag_of_scalar_is_refused() -> None:
    document = parse(nested("[x]", "[@, @, @]", 12) + "z: !!str [*a11, *a11]\n")
    assert [flaw.path for flaw in document.flaws if "!!str" in flaw.message or "too large" in flaw.message]


def test_tag_directives_are_refused() -> None:
    [flaw] = parse(f"%TAG !e! tag:{'x' * 100_000}\n---\na: [{'!e!b c, ' * 50_000}]\n").flaws
    assert flaw.line == 1
    assert "%TAG" in flaw.message


def test_escapes_beyond_unicode_are_refused() -> None:
    [flaw] = parse('a: 1\nb: "\\UFFFFFFFF"\n').flaws
    assert flaw.line == 2


def test_surrogate_pairs_are_joined_and_lone_ones_refused() -> None:
    assert parse(r'a: "\ud83d\ude00"').data == {"a": "\N{GRINNING FACE}"}
    [flaw] = parse(r'a: "\ud83d"').flaws
    assert flaw.path == ("a",)
    assert "half a character" in flaw.message


@pytest.mark.parametrize("number", ["9" * 309, "-" + "9" * 309, "0x" + "f" * 300])
def test_integers_beyond_float_range_are_refused(number: str) -> None:
    [flaw] = parse(f"a: {number}").flaws
    assert flaw.path == ("a",)


def test_integers_with_too_many_digits_are_refused() -> None:
    [flaw] = parse("a: " + "9" * 5000).flaws
    assert flaw.path == ("a",)


@given(st.text())
def test_parse_never_raises(text: str) -> None:
    document = parse(text)
    assert document.data is None or not any(flaw.path == () for flaw in document.flaws)


@given(st.text(alphabet="ab:-[]{}&*<'\"#|>!%@ \n\t1.e?,~", max_size=60))
def test_parse_never_raises_on_yaml_like_text(text: str) -> None:
    parse(text)
