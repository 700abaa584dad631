"""Spaces of other libraries, converted to the hyperparameters and constraints of Ashwood.

Each function returns the arguments ``hparams`` and ``constraints`` of `ashwood.run`::

    space = ashwood.spaces.from_configspace(configuration_space)
    ashwood.run(train, **space, searcher=searcher)

The libraries need not be installed to import this module.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ashwood.errors import AshwoodError
from ashwood.search.conditions import Test, parse_test
from ashwood.search.space import Categorical, Const, Double, Hyperparameter, Int

_SIGNS = {"LessThan": "<", "LessThanEquals": "<=", "GreaterThan": ">", "GreaterThanEquals": ">=", "Equals": "=="}
"""Comparisons of ConfigSpace, by the names of their classes."""


def number_range(low: float, high: float, step: float | None = None, *, log: bool = False) -> Double | Const:
    """Return the hyperparameter of Optuna's ``suggest_float`` with these arguments."""
    if low == high or (step is not None and low + step > high):
        return Const(low)
    return Double(low, high, step=step, log=log)


def int_range(low: int, high: int, step: int = 1, *, log: bool = False) -> Int | Const:
    """Return the hyperparameter of Optuna's ``suggest_int`` with these arguments."""
    if low + step > high:
        return Const(low)
    return Int(low, high, step=None if step == 1 else step, log=log)


def choice(values: Sequence[Any], *, ordered: bool = False) -> Categorical | Const:
    """Return the hyperparameter that is one of some values."""
    plain = [_plain(value) for value in values]
    return Const(plain[0]) if len(plain) == 1 else Categorical(plain, ordered=ordered)


def from_optuna(distributions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of Optuna's distributions by name, such as ``study.trials[0].distributions``.

    Example::

        from optuna.distributions import FloatDistribution

        space = ashwood.spaces.from_optuna({"lr": FloatDistribution(1e-5, 1e-1, log=True)})

    Raises:
        AshwoodError: a distribution cannot be converted; the message names it.
    """
    hparams: dict[str, Hyperparameter] = {}
    for name, each in distributions.items():
        match type(each).__name__:
            case "FloatDistribution":
                hparams[name] = number_range(each.low, each.high, each.step, log=each.log)
            case "IntDistribution":
                hparams[name] = int_range(each.low, each.high, each.step, log=each.log)
            case "CategoricalDistribution":
                hparams[name] = choice(each.choices)
            case _:
                raise _refused(name, each, "use FloatDistribution, IntDistribution or CategoricalDistribution")
    return {"hparams": hparams, "constraints": []}


def from_ray(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a search space of Ray Tune, the ``param_space`` of a tuner.

    Example::

        space = ashwood.spaces.from_ray({"lr": tune.loguniform(1e-5, 1e-1), "layers": tune.randint(1, 9)})

    Raises:
        AshwoodError: a domain cannot be converted; the message names it.
    """
    return {"hparams": {name: _from_ray(name, each) for name, each in space.items()}, "constraints": []}


def _from_ray(name: str, domain: Any) -> Any:
    if isinstance(domain, Mapping):
        if domain.keys() == {"grid_search"}:
            return choice(domain["grid_search"])
        return {key: _from_ray(f"{name}.{key}", each) for key, each in domain.items()}
    if isinstance(domain, list | tuple) and (hidden := _find_domain(name, domain)) is not None:
        raise _refused(*hidden, "a domain in a list is not searched, so give it a name of its own in a map")
    if not hasattr(domain, "get_sampler"):
        return _plain(domain)
    kind, sampler = type(domain).__name__, domain.get_sampler()
    if kind == "Categorical":
        if any(hasattr(each, "get_sampler") for each in domain.categories):
            raise _refused(name, kind, "a choice between other domains needs a condition, see `when`")
        return choice(domain.categories)
    quantum, scale = getattr(sampler, "q", None), str(getattr(sampler, "sampler", sampler))
    what = f"{kind} ({scale})"  # The text of a domain of Ray is the address of an object.
    if kind not in ("Float", "Integer") or scale not in ("Uniform", "LogUniform"):
        raise _refused(name, what, "use uniform, loguniform, randint, lograndint, quniform, qrandint or choice")
    log, low, high = scale == "LogUniform", domain.lower, domain.upper
    if log and quantum and quantum != 1:
        raise _refused(name, what, "a logarithmic scale has no steps")
    if quantum and not log:  # Ray requires that the lower bound is a multiple of the step.
        return int_range(low, high, quantum) if kind == "Integer" else number_range(low, high, quantum)
    if kind == "Float":
        return number_range(low, high, log=log)
    return int_range(low, high if quantum else high - 1, log=log)  # randint does not draw its upper bound.


def _find_domain(name: str, value: Any) -> tuple[str, str] | None:
    """Return the path and the type of the first domain of Ray inside a list, or None if there is none."""
    if hasattr(value, "get_sampler") or (isinstance(value, Mapping) and value.keys() == {"grid_search"}):
        return name, "grid_search" if isinstance(value, Mapping) else type(value).__name__
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inside = ((f"{name}.{key}", each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        inside = ((f"{name}[{index}]", each) for index, each in enumerate(value))
    return next((found for at, each in inside if (found := _find_domain(at, each)) is not None), None)


def from_configspace(space: Any) -> dict[str, Any]:
    """Return the hyperparameters, conditions and constraints of a ``ConfigurationSpace`` of ConfigSpace.

    Example::

        space = ashwood.spaces.from_configspace(ConfigurationSpace({"lr": (1e-5, 1e-1), "layers": (1, 8)}))

    Raises:
        AshwoodError: a hyperparameter, condition or forbidden clause cannot be converted; the message names it.
    """
    hparams = {each.name: _from_configspace(each) for each in space.values()}
    for condition in space.conditions:
        name = condition.child.name
        hparams[name] = replace(hparams[name], when=_when(condition))
    return {"hparams": hparams, "constraints": [f"not ({_forbidden(clause)})" for clause in space.forbidden_clauses]}


def _from_configspace(each: Any) -> Hyperparameter:
    match type(each).__name__:
        case "Constant":
            return Const(_plain(each.value))
        case "UniformFloatHyperparameter":
            return number_range(float(each.lower), float(each.upper), log=each.log)
        case "UniformIntegerHyperparameter":
            return int_range(int(each.lower), int(each.upper), log=each.log)
        case "OrdinalHyperparameter":
            return choice(each.sequence, ordered=True)
        case "CategoricalHyperparameter":
            if len(set(each.probabilities)) > 1:
                raise _refused(each.name, each, "its choices must have equal weights")
            return choice(each.choices)
    raise _refused(each.name, each, "use a uniform range, a categorical, an ordinal or a constant")


def _when(condition: Any) -> dict[str, Any]:
    """Return the condition of ConfigSpace as the value of ``when``."""
    kind, child = type(condition).__name__, condition.child.name
    if kind == "AndConjunction":
        parts = [_when(each) for each in condition.components]
        merged = {name: required for part in parts for name, required in part.items()}
        if len(merged) < sum(map(len, parts)):
            raise _refused(child, condition, "it has two conditions on one hyperparameter")
        return merged
    if kind == "OrConjunction":
        whens = [_when(each) for each in condition.components]
        names = {name for when in whens for name in when}
        tests = [parse_test(required) for when in whens for required in when.values()]
        if len(names) != 1 or any(test.sign != "=" for test in tests):
            raise _refused(child, condition, "an or may only join values of one hyperparameter")
        return {names.pop(): [value for test in tests for value in test.values]}
    parent, sequence = condition.parent, getattr(condition.parent, "sequence", getattr(condition.parent, "choices", ()))
    if kind == "InCondition":
        return {parent.name: [_plain(value) for value in condition.values]}
    value = _plain(condition.value)
    if kind == "EqualsCondition":
        return {parent.name: value if parse_test(value) == Test("=", (value,)) else [value]}
    if kind == "NotEqualsCondition":
        others = [_plain(each) for each in sequence if each != condition.value]
        return {parent.name: others if sequence else f"!= {value}"}
    sign = _SIGNS[kind.removesuffix("Condition")]
    if not sequence:
        return {parent.name: f"{sign} {value!r}"}
    place = list(sequence).index(condition.value)
    return {parent.name: [_plain(each) for each in (sequence[:place] if sign == "<" else sequence[place + 1 :])]}


def _forbidden(clause: Any) -> str:
    """Return a forbidden clause of ConfigSpace as an expression."""
    kind = type(clause).__name__
    if kind in ("ForbiddenAndConjunction", "ForbiddenOrConjunction"):
        word = " and " if kind == "ForbiddenAndConjunction" else " or "
        return word.join(f"({_forbidden(each)})" for each in clause.components)
    if kind == "ForbiddenInClause":
        return f"{_spelled(clause.hyperparameter.name)} in {[_plain(value) for value in clause.values]!r}"
    sign = _SIGNS.get(kind.removeprefix("Forbidden").removesuffix("Clause").removesuffix("Relation"))
    if sign is None:
        raise AshwoodError(f"cannot convert the forbidden clause {clause}")
    is_relation = kind.endswith("Relation")
    sides = [clause.left, clause.right] if is_relation else [clause.hyperparameter]
    if sign != "==" and any(hasattr(side, "sequence") for side in sides):
        raise AshwoodError(f"cannot convert the forbidden clause {clause}: an order of ordinals is not a number")
    other = _spelled(clause.right.name) if is_relation else repr(_plain(clause.value))
    return f"{_spelled(sides[0].name)} {sign} {other}"


def _spelled(name: str) -> str:
    """Return the name of a hyperparameter as an expression spells it."""
    is_plain = all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split("."))
    return name if is_plain else f"hparams[{name!r}]"


def _plain(value: Any) -> Any:
    """Return a number or text of NumPy as one of Python."""
    to_python: Callable[[], Any] | None = getattr(value, "item", None)
    return to_python() if to_python is not None and getattr(value, "shape", None) == () else value


def _refused(name: str, what: Any, hint: str) -> AshwoodError:
    return AshwoodError(f"cannot convert the hyperparameter {name!r}: {what}: {hint}")
