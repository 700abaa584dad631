"""Simulated experiments to draw, and checks that hold for any figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ashwood.experiment.entry import fold
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.space import Categorical, Const, Double, Group, Int, Log, Space
from ashwood.views.history import History
from tests.views.simulate import Curve, Workers, asha, power_law, spec_of

SCRIPT = "<script>alert(1)</script>"
LINK = '<a href="javascript:alert(1)">x</a>'
SPACE = Space(
    {
        "lr": Log(-5, -1),
        "drop": Double(0, 0.5),
        "opt": Categorical(("adam", SCRIPT, None, True, 1)),
        "model": {LINK: Int(1, 8), "width": Const(64)},
    }
)


CONDITIONAL = Space(
    {
        "opt": Categorical(("sgd", "adam", None)),
        "sgd": Group({"momentum": Double(0.0, 0.9), "nesterov": Categorical((True, None))}, {"opt": "sgd"}),
        "layers": Int(1, 8, when={"opt": ["adam", None]}),
        "width": Int(8, 1024, log=True, when={"layers": "> 1"}),
        "batch": Int(16, 512, step=16),
        "decay": Double(1e-6, 1e-2, log=True),
        "size": Categorical(("small", "medium", "large"), ordered=True),
    },
    ("batch * width <= 100000",),
)


def spec(trials: int = 60, *, space: Space = SPACE, **more: Any) -> ExperimentSpec:
    """Return an experiment in which every name that a user can choose is markup."""
    settings = asha(trials, max_length=more.pop("max_length", 64), **more)
    return replace(spec_of(settings), name=SCRIPT, metric=LINK, space=space)


def simulated(
    trials: int = 60, *, stop_after: int | None = None, faults: float = 0.0, curve: Curve | None = None, **more: Any
) -> History:
    """Return the views of a simulated experiment, complete or up to entry ``stop_after`` of its event log."""
    ran = Workers(
        spec(trials, **more), curve or power_law(3), workers=6, faults=(faults, faults / 4, faults / 4), period=1
    )
    ran.run(stop_after=stop_after, crash=True)
    return fold(History(ran.spec), ran.entries[:stop_after])


def texts(figure: Any) -> Iterator[str]:
    """Yield every text in a figure."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            for each in node.values():
                yield from walk(each)
        elif isinstance(node, list):
            for each in node:
                yield from walk(each)

    return walk(json.loads(figure.to_json()))


def is_safe(figure: Any) -> bool:
    """Return whether a figure has no markup from users and no address of another site."""
    return not any("<script" in text or "<a " in text or "http" in text for text in texts(figure))


def trials_of(trace: Any) -> list[int]:
    """Return the trial of each point of a trace; the page opens it when the point is clicked."""
    return [int(facts[0]) for facts in trace.customdata]
