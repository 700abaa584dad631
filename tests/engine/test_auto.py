"""``mode: auto`` with the engine: it learns, and its log replays to the same decisions."""

import pytest

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.eventlog.fold_cache import fold
from ashwood.experiment.decisions import CreateTrial
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.forecast.training import Setting, Trained
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, Sampler, SearchSettings
from ashwood.search.space import Double, Space
from tests.eventlog.memory_store import MemoryLog, MemoryStore


class Bowl:
    """The best value of ``x`` is 0.2; ``y`` matters little."""

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        x, y = setting.hparams["x"], setting.hparams["y"]
        return Trained((end - begin) * (1 + y), (x - 0.2) ** 2 + 0.01 * y + 1 / end)


def spec_of(sampler: Sampler) -> ExperimentSpec:
    return ExperimentSpec(
        name="auto",
        space=Space({"x": Double(0.0, 1.0), "y": Double(0.0, 1.0)}),
        search=SearchSettings(
            method=Method.ADAPTIVE_ASHA,
            mode=Mode.AUTO,
            max_length=40,
            max_trials=120,
            divisor=AUTO_DEFAULTS.divisor,
            max_rungs=AUTO_DEFAULTS.max_rungs,
            sampler=sampler,
        ),
        metric="loss",
        unit=Unit.EPOCHS,
        entrypoint=Entrypoint(EntrypointKind.FUNCTION, "m:f"),
        workdir=".",
        seed=3,
    )


def run(spec: ExperimentSpec, workers: int = 5) -> tuple[Experiment, MemoryLog]:
    store = MemoryStore()
    log = store.log(store.create(spec, at=0.0))
    return simulate(Experiment(spec), SimulatedBackend(spec, Bowl(), workers), log=log), log


def distance(experiment: Experiment) -> float:
    xs: list[float] = [trial.hparams["x"] for trial in experiment.trials.values()]
    return sum(abs(x - 0.2) for x in xs) / len(xs)


def test_new_trials_are_drawn_near_good_ones() -> None:
    learning, _ = run(spec_of(Sampler.DENSITY))
    random, _ = run(spec_of(Sampler.RANDOM))
    assert learning.state is random.state is ExperimentState.COMPLETED
    assert distance(learning) < 0.7 * distance(random)


@pytest.mark.parametrize("workers", [1, 7])
def test_auto_mode_log_replays_to_same_trials(workers: int) -> None:
    spec = spec_of(Sampler.DENSITY)
    experiment, log = run(spec, workers)
    again = fold(spec, log).experiment
    assert again.trials == experiment.trials
    created = [d for _, entry in log.read() for d in entry.decisions if isinstance(d, CreateTrial)]
    assert [d.hparams for d in created] == [trial.hparams for trial in experiment.trials.values()]
