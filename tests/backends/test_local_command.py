"""Placeholders in commands, as the shell sees them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.backends.local.command import fill_in
from ashwood.errors import TrainingCodeError

SHOW = f"{sys.executable} -S -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
NASTY = 'it\'s "$HOME" `id` \\ * #x {y} $(id)\nnext'


def words(command: str, hparams: Mapping[str, Any], **others: Any) -> list[str]:
    """The words that a program gets, called by a command that ends in ``show …``."""
    command = f'show() {{ {SHOW} "$@"; }}\n' + fill_in(command, hparams, others)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    shown: list[str] = json.loads(done.stdout)
    return shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("show {t}", [NASTY]),
        ("show run-{t}.x", [f"run-{NASTY}.x"]),
        ("show 'run {t}'", [f"run {NASTY}"]),
        ('show "run {t}"', [f"run {NASTY}"]),
        ("show 'a'\"b {t}\"'c {t}'", [f"ab {NASTY}c {NASTY}"]),
        ('show "$(printf %s {t})"', [NASTY]),
        ('show "$(printf %s "{t}")"', [NASTY]),
        ("show \"$(printf %s '{t}')\"", [NASTY]),
        ('show "`printf %s {t}`"', [NASTY]),
        ("true # don't stop here {t} {unknown}\nshow '{t}'", [NASTY]),
        ("show \\' {t} \\\" '{t}'", ["'", NASTY, '"', NASTY]),
        ("show '\\' '{t}'", ["\\", NASTY]),
        ('show "\\"{t}"', [f'"{NASTY}']),
        ('show "don\'t {t}"', [f"don't {NASTY}"]),
        ("show $((1 + {n})) $(({n} * ({n} + 1))) '{t}'", ["3", "6", NASTY]),
        ("(show {n} '{t}')", ["2", NASTY]),
        ("show a#'{t}' $# '{t}'", [f"a#{NASTY}", "0", NASTY]),
        ("show {{t}}#1 '{{t}}' ${n} x{t,n}", ["{t}#1", "{t}", "x{t,n}"]),
        (
            "show {list} '{list}' {none} {yes} {deep} {deep.x}",
            ["[1, 2]", "[1, 2]", "null", "true", '{"x": 1.5}', "1.5"],
        ),
        ("show {trial.id}-{experiment.name}", ["7-my search"]),
    ],
)
def test_placeholder_has_the_same_value_whatever_quotes_it_is_in(command: str, expected: list[str]) -> None:
    hparams = {"t": NASTY, "n": 2, "list": [1, 2], "none": None, "yes": True, "deep": {"x": 1.5}}
    assert words(command, hparams, **{"trial.id": 7, "experiment.name": "my search"}) == expected


@pytest.mark.slow
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.sampled_from(["", "'", '"']))
def test_any_text_reaches_the_program(text: str, quote: str) -> None:
    assert words(f"show {quote}{{t}}{quote}", {"t": text}) == [text]


def test_args_expand_to_options() -> None:
    hparams = {
        "lr": 1e-5,
        "layers": [64, "a b"],
        "none": None,
        "amp": True,
        "bf16": False,
        "text": "it's $HOME",
        "optimizer": {"name": "sgd", "nesterov": True, "betas": [0.9, 0.99]},
        "shift": -1e-5,
        "word": "-x",
        "empty": [],
        "nothing": {},
        "odd name": 1,
    }
    assert words("show {args}", hparams) == [
        *("--lr", "1e-05", "--layers", "64", "a b", "--amp", "--text", "it's $HOME"),
        *("--optimizer.name", "sgd", "--optimizer.nesterov", "--optimizer.betas", "0.9", "0.99"),
        *("--shift=-1e-05", "--word=-x", "--empty", "--odd name", "1"),
    ]


@pytest.mark.parametrize("command", ["sh -c 'show {args}'", 'sh -c "show {args}"'])
def test_args_inside_quotes_are_words_of_the_inner_command(command: str) -> None:
    shell = f'show() {{ {SHOW} "$@"; }}; '
    command = command.replace("sh -c", "eval")
    assert words(shell + command, {"a": "it's $HOME", "b": 1}) == ["--a", "it's $HOME", "--b", "1"]


def test_hyperparameters_go_before_other_placeholders() -> None:
    hparams = {"args": "mine", "trial": {"id": "own"}}
    assert words("show {args} {trial.id}", hparams, **{"trial.id": 7}) == ["mine", "own"]


def test_unknown_placeholder_is_refused_with_a_hint() -> None:
    with pytest.raises(TrainingCodeError, match=r"contains \{learning_rat\}.*did you mean 'learning_rate'\?"):
        fill_in("train {learning_rat}", {"learning_rate": 1}, {})
