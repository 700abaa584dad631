import copy
import json
import pickle

import pytest

from ashwood.trial.values import Values

VALUES = Values({"lr": 0.1, "optimizer": {"name": "sgd", "betas": [0.9, {"late": 1}]}, "items": 3})


def test_values_are_read_by_item_and_by_attribute_at_any_depth() -> None:
    assert VALUES.lr == VALUES["lr"] == 0.1
    assert VALUES.optimizer.name == VALUES["optimizer"]["name"] == "sgd"
    assert VALUES.optimizer.betas[1].late == 1
    assert VALUES["items"] == 3


def test_values_are_an_ordinary_mapping() -> None:
    assert dict(**VALUES) == VALUES
    assert json.loads(json.dumps(VALUES)) == VALUES
    assert pickle.loads(pickle.dumps(VALUES)) == copy.deepcopy(VALUES) == VALUES
    assert pickle.loads(pickle.dumps(VALUES)).optimizer.name == "sgd"
    assert VALUES.get("missing") is None
    assert not hasattr(VALUES, "missing")


@pytest.mark.parametrize("error", [KeyError, AttributeError])
def test_an_unknown_name_gets_the_nearest_spelling(error: type[Exception]) -> None:
    with pytest.raises(error, match=r"there is no 'optimiser' \(did you mean 'optimizer'\?\); there is: lr, optimizer"):
        VALUES["optimiser"] if error is KeyError else VALUES.optimiser


def test_attributes_can_not_be_set_by_mistake() -> None:
    with pytest.raises(AttributeError):
        VALUES.lr = 1  # type: ignore[attr-defined]
