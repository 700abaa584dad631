"""The resources that a worker takes from the nodes of a cluster."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.backends.ray.demand import NodeResources, Shape, in_words, room, shape_of
from ashwood.errors import BackendError
from ashwood.experiment.spec import Demand, ExperimentSpec
from ashwood.testing.backend import toy_spec


def spec(slots: int = 1, **demand: object) -> ExperimentSpec:
    return toy_spec(Path("/w"), slots_per_trial=slots, demand=Demand(**demand))  # type: ignore[arg-type]


def nodes(*offers: dict[str, float]) -> list[NodeResources]:
    return [NodeResources(f"node-{number}", str(number), offer) for number, offer in enumerate(offers)]


CORES = nodes({"CPU": 4.0, "memory": 2.0**34}, {"CPU": 16.0, "memory": 2.0**34})
GPUS = nodes({"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 32.0})


@pytest.mark.parametrize(
    ("experiment", "cluster", "shape"),
    [
        (spec(), CORES, Shape({"CPU": 1})),
        (spec(4), CORES, Shape({"CPU": 4})),
        (spec(cpus=0.5), CORES, Shape({"CPU": 0.5})),
        (spec(memory=2**33), CORES, Shape({"CPU": 1, "memory": 2**33})),
        (spec(), GPUS, Shape({"CPU": 1, "GPU": 1})),
        (spec(2), GPUS, Shape({"CPU": 1, "GPU": 2})),
        (spec(gpus=0.25), GPUS, Shape({"CPU": 1, "GPU": 0.25})),
        (spec(gpus=1.0, cpus=6.0), GPUS, Shape({"CPU": 6, "GPU": 1})),
        (spec(gpus=0.0, cpus=32.0), GPUS, Shape({"CPU": 32})),
        (spec(4), GPUS, Shape({"CPU": 0.5, "GPU": 2}, 2)),
        (spec(18), CORES, None),
        (spec(custom={"tpu": 1}), nodes({"CPU": 1, "tpu": 4}), Shape({"CPU": 1, "tpu": 1})),
    ],
)
def test_slot_is_gpu_or_core_if_no_node_has_gpus(
    experiment: ExperimentSpec, cluster: list[NodeResources], shape: Shape | None
) -> None:
    if shape is None:
        with pytest.raises(BackendError):
            shape_of(experiment, cluster)
    else:
        assert shape_of(experiment, cluster) == shape


def test_error_for_trial_that_fits_on_no_node_names_largest_node() -> None:
    with pytest.raises(BackendError) as refusal:
        shape_of(spec(gpus=8.0, cpus=4.0, memory=2**36), GPUS)
    text = str(refusal.value)
    assert "takes 4 CPU, 8 GPU, 64 GiB of memory" in text
    assert "the largest, node-0, has 8 CPU, 2 GPU" in text
    assert "autoscales" in text
    assert shape_of(spec(gpus=8.0), GPUS, autoscales=True) == Shape({"CPU": 1, "GPU": 8})


def test_cluster_without_nodes_raises() -> None:
    with pytest.raises(BackendError, match="the cluster has no nodes"):
        shape_of(spec(), [])


@given(st.integers(1, 64), st.lists(st.integers(1, 16), min_size=1, max_size=6))
def test_shape_has_all_slots_and_fits_on_nodes(slots: int, cores: list[int]) -> None:
    cluster = nodes(*({"CPU": float(count)} for count in cores))
    try:
        shape = shape_of(spec(slots), cluster)
    except BackendError:
        assert max(cores) < slots
        return
    assert round(shape.share["CPU"] * shape.processes, 6) == slots
    assert sum(count >= shape.share["CPU"] for count in cores) >= shape.processes
    assert shape.processes == 1 or max(cores) < slots


def test_room_is_limited_by_scarcest_resource() -> None:
    assert room({"CPU": 2, "GPU": 0.5}, {"CPU": 9.0, "GPU": 1.0}) == 2
    assert room({"CPU": 1, "tpu": 1}, {"CPU": 9.0}) == 0


def test_in_words_names_amounts_and_units() -> None:
    assert in_words({"CPU": 1.0, "GPU": 0.5, "memory": 1.5 * 2**30}) == "1 CPU, 0.5 GPU, 1.5 GiB of memory"
    assert in_words({}) == "nothing"
