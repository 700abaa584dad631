"""Files in the style of Determined AI's examples, of several of its versions: each is accepted, or says what to write.

The texts are our own.  Between them they have the constructs of about 90 files of its repositories from 0.12 to 0.38.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ashwood.config import read_experiment
from ashwood.errors import ConfigError
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode

FUNCTION, COMMAND = EntrypointKind.FUNCTION, EntrypointKind.COMMAND

CORE_API_SCRIPT = """\
name: core-api-start
entrypoint: ./start.py
# One instance of the script, which reports nothing.
searcher:
   name: single
   metric: x
   max_length: 1
max_restarts: 0
"""
CORE_API_WITHOUT_LENGTH = """\
name: unmanaged-torch-distributed
entrypoint: >-
  python3 -m determined.launch.torch_distributed
  python3 train.py --epochs 3

resources:
  slots_per_trial: 2
searcher:
   name: single
   metric: x
max_restarts: 0
"""
RANDOM_WITHOUT_LENGTH = """\
name: random-search
entrypoint: python3 train.py
hyperparameters:
  learning_rate: {type: double, minval: .0001, maxval: 1.0}
  n_filters: {type: int, minval: 8, maxval: 64}
searcher:
  name: random
  metric: validation_loss
  smaller_is_better: true
  max_trials: 12
  max_concurrent_trials: 4
min_validation_period: {epochs: 1}
min_checkpoint_period: {batches: 100}
"""
GRID_WITHOUT_LENGTH = """\
name: evaluate-checkpoints
workspace: research
project: evaluation
entrypoint: [python3, -m, evaluate, --batch-size, "8"]
environment:
  environment_variables:
    - NCCL_DEBUG=INFO
    - HF_HOME=/nvme/cache
  image: determinedai/environments:cuda
hyperparameters:
  task:
    type: categorical
    vals:
      - name: easy
        shots: 5
      - name: hard
        shots: 5
  layers: {type: int, minval: 1, maxval: 4, count: 2}
searcher: {name: grid, metric: accuracy, smaller_is_better: false}
bind_mounts:
  - {host_path: /nvme, container_path: /nvme, propagation: rprivate, read_only: false}
"""
ADAPTIVE_WITH_TIME_METRIC = """\
name: mnist-adaptive
description: An adaptive search in which training code reports epochs.
hyperparameters:
  learning_rate: {type: log, minval: -5.0, maxval: 0.0, base: 10.0}
  dropout: {type: double, minval: .2, maxval: .8}
records_per_epoch: 60000
searcher:
  name: adaptive_asha
  metric: test_loss
  smaller_is_better: true
  max_trials: 50
  time_metric: epochs
  max_time: 20
  mode: aggressive
  stop_once: true
entrypoint: python3 model_def.py --epochs 20
max_restarts: 0
"""
ADAPTIVE_WITH_BOTH_LENGTHS = ADAPTIVE_WITH_TIME_METRIC.replace(
    "max_time: 20", "max_time: 20\n  max_length: {epochs: 20}"
)
ADAPTIVE_WITH_MANY_RUNGS = """\
name: fine-tune
hyperparameters:
  global_batch_size: 4
  lr: {type: double, minval: 1e-5, maxval: 1e-4}
  model: detr
  dilation: false
  ids:
    - 21
searcher:
  name: adaptive_asha
  metric: mAP
  smaller_is_better: false
  max_length:
      batches: 100
  max_trials: 100
  mode: standard
  max_rungs: 5
  max_concurrent_trials: 36
resources:
    slots_per_trial: 1
    shm_size: 2000000000
entrypoint: model_def:train
"""
HALVING_WITH_MANY_RUNGS = """\
description: one bracket
hyperparameters: {global_batch_size: 32, metrics_base: {type: double, minval: 0.5, maxval: 0.9}, metrics_sigma: 0}
checkpoint_storage: {type: shared_fs, host_path: /tmp, storage_path: integration-checkpoints, save_trial_best: 30}
searcher: {name: async_halving, metric: validation_error, max_length: {batches: 640}, max_trials: 30, num_rungs: 9}
reproducibility: {experiment_seed: 999}
entrypoint: model_def:train
"""
TRIAL_CLASS_OF_2020 = """\
description: mnist_const
data:
  url: https://example.com/mnist.tar.gz
hyperparameters:
  learning_rate: 1.0
  global_batch_size: 64
  dropout: 0.25
searcher:
  name: single
  metric: validation_loss
  max_length:
      batches: 937 #60,000 training images with batch size 64
  smaller_is_better: true
min_validation_period: {batches: 100}
scheduling_unit: 100
optimizations: {aggregation_frequency: 2, mixed_precision: O1}
data_layer: {type: shared_fs}
entrypoint: model_def:MNistTrial
"""
DEEPSPEED = """\
name: pipeline
debug: false
hyperparameters:
  deepspeed_config: ds_config.json
  overwrite_deepspeed_args:
    train_micro_batch_size_per_gpu: {type: categorical, vals: [2, 4, 8]}
  training_args: {learning_rate: 1e-5, report_to: "wandb", deepspeed: true}
  wandb_group: null
environment:
    force_pull_image: true
    image: {gpu: someone/gpt, cpu: someone/gpt-cpu}
    proxy_ports: [{proxy_port: 6379, proxy_tcp: true}]
resources: {slots_per_trial: 8, resource_pool: a100, priority: 50, max_slots: 16}
searcher: {name: grid, metric: flops, smaller_is_better: false, max_length: {batches: 100}, max_concurrent_trials: 2}
checkpoint_policy: none
max_restarts: 2
entrypoint:
  - python3
  - -m
  - determined.launch.deepspeed
  - gpt2_trial:GPT2Trial
"""
KERAS_IN_EPOCHS = """\
name: iris
data: {train_url: "http://example.com/iris.csv"}
hyperparameters:
  learning_rate: 1.0e-4
  layer1_dense_size: 16
  global_batch_size: 30
records_per_epoch: 120
searcher: {name: single, metric: val_categorical_accuracy, smaller_is_better: false, max_length: {epochs: 400}}
min_validation_period: {batches: 50}
min_checkpoint_period: {records: 1500}
entrypoint: python3 -m determined.launch.horovod --autohorovod --trial model_def:IrisTrial
profiling: {enabled: true, begin_on_batch: 0, end_after_batch: 10, sync_timings: false}
"""
CLUSTER_KEYS = """\
name: on slurm
slurm: {gpu_type: tesla, sbatch_args: [--exclusive]}
pbs: {pbsbatch_args: [-V]}
log_policies:
  - pattern: ".*uncorrectable ECC error.*"
    action: {type: exclude_node}
retention_policy: {log_retention_days: 90}
preemption_timeout: 60
integrations: {webhooks: {webhook_name: [mine]}}
environment: {slurm: [--exclusive], pbs: [-V], environment_variables: {cpu: [A=1], cuda: [A=2]}}
searcher: {name: random, metric: error, max_length: 1000, max_trials: 2}
hyperparameters: {x: {type: double, minval: 0, maxval: 1}}
max_restarts: 0
entrypoint: python3 fail.py
"""
SOURCE_AND_POLICY = """\
name: warm start
labels: [warm]
hyperparameters: {lr: {type: const, val: 0.1}, classifier: {rates: [0.4, 0.3], momentum: 0.9}}
searcher:
  name: random
  metric: test_accuracy
  smaller_is_better: false
  max_trials: 1
  max_length: {epochs: 100}
checkpoint_policy: all
checkpoint_storage: {save_trial_latest: 5, save_experiment_best: 2}
perform_initial_validation: true
entrypoint: python3 -m determined.launch.torch_distributed -- python3 fsdp.py
"""

# name -> text, method, unit, max_length (None: training code decides), max_trials, keys of warnings
ACCEPTED: dict[str, tuple[str, Method, Unit, int | None, int, list[str]]] = {
    "core api": (CORE_API_SCRIPT, Method.SINGLE, Unit.STEPS, 1, 1, []),
    "core api without length": (CORE_API_WITHOUT_LENGTH, Method.SINGLE, Unit.STEPS, None, 1, ["entrypoint"]),
    "random without length": (RANDOM_WITHOUT_LENGTH, Method.RANDOM, Unit.STEPS, None, 12, []),
    "grid without length": (
        GRID_WITHOUT_LENGTH,
        Method.GRID,
        Unit.STEPS,
        None,
        4,
        ["workspace", "project", "environment.image", "bind_mounts"],
    ),
    "adaptive with time_metric": (ADAPTIVE_WITH_TIME_METRIC, Method.ADAPTIVE_ASHA, Unit.EPOCHS, 20, 50, []),
    "adaptive with both lengths": (
        ADAPTIVE_WITH_BOTH_LENGTHS,
        Method.ADAPTIVE_ASHA,
        Unit.EPOCHS,
        20,
        50,
        ["searcher.max_time"],
    ),
    "adaptive with many rungs": (
        ADAPTIVE_WITH_MANY_RUNGS,
        Method.ADAPTIVE_ASHA,
        Unit.BATCHES,
        100,
        100,
        ["searcher.max_rungs", "resources.shm_size"],
    ),
    "halving with many rungs": (
        HALVING_WITH_MANY_RUNGS,
        Method.ASYNC_HALVING,
        Unit.BATCHES,
        640,
        30,
        ["searcher.num_rungs"],
    ),
    "trial class": (
        TRIAL_CLASS_OF_2020,
        Method.SINGLE,
        Unit.BATCHES,
        937,
        1,
        ["scheduling_unit", "optimizations", "data_layer", "entrypoint"],
    ),
    "deepspeed": (
        DEEPSPEED,
        Method.GRID,
        Unit.BATCHES,
        100,
        3,
        [
            *("debug", "environment.force_pull_image", "environment.image", "environment.proxy_ports"),
            *("resources.resource_pool", "resources.priority", "resources.max_slots", "entrypoint"),
        ],
    ),
    "keras": (KERAS_IN_EPOCHS, Method.SINGLE, Unit.EPOCHS, 400, 1, ["entrypoint", "profiling"]),
    "cluster keys": (
        CLUSTER_KEYS,
        Method.RANDOM,
        Unit.STEPS,
        1000,
        2,
        [
            *("slurm", "pbs", "log_policies", "retention_policy", "preemption_timeout", "integrations"),
            *("environment.slurm", "environment.pbs", "environment.environment_variables"),
        ],
    ),
    "source and policy": (
        SOURCE_AND_POLICY,
        Method.RANDOM,
        Unit.EPOCHS,
        100,
        1,
        ["perform_initial_validation", "entrypoint"],
    ),
}


def read(tmp_path: Path, text: str) -> tuple[ExperimentSpec, tuple[str, ...]]:
    file = tmp_path / "const.yaml"
    file.write_text(text)
    loaded = read_experiment(file)
    return loaded.spec, tuple(warning.removeprefix(f"{file}:") for warning in loaded.warnings)


@pytest.mark.parametrize("name", ACCEPTED)
def test_file_of_determined_is_accepted(tmp_path: Path, name: str) -> None:
    text, method, unit, max_length, max_trials, warned = ACCEPTED[name]
    spec, warnings = read(tmp_path, text)
    assert (spec.search.method, spec.unit, spec.search.max_trials) == (method, unit, max_trials)
    assert (None if spec.search.open_ended else spec.search.max_length) == max_length
    # A warning that belongs to a key of section 2, the training code, may come and go.
    assert {key.split(": ")[1] for key in warnings} - {"entrypoint"} == {*warned} - {"entrypoint"}
    assert plan_search(spec.search).brackets


def test_script_in_the_directory_is_a_command(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, CORE_API_SCRIPT)
    assert spec.entrypoint == Entrypoint(COMMAND, "./start.py")


@pytest.mark.parametrize(
    ("entrypoint", "accepted"),
    [
        ("model_def:IrisTrial", True),
        ("python3 -m determined.launch.torch_distributed --trial model_def:IrisTrial", True),
        ("model_def:train", False),
        ("python3 -m determined.launch.torch_distributed python3 train.py", True),
    ],
)
def test_trial_class_needs_no_records_per_epoch(tmp_path: Path, entrypoint: str, accepted: bool) -> None:
    text = KERAS_IN_EPOCHS.replace("records_per_epoch: 120\n", "").partition("entrypoint:")[0]
    if accepted:
        spec, _ = read(tmp_path, f"{text}entrypoint: {entrypoint}\n")
        assert spec.records_per_epoch is None
    else:
        with pytest.raises(ConfigError, match="to convert, add records_per_epoch"):
            read(tmp_path, f"{text}entrypoint: {entrypoint}\n")


def test_nested_and_bare_values_become_hyperparameters(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, DEEPSPEED)
    point: Any = spec.space.grid_point(0)
    assert point["overwrite_deepspeed_args"] == {"train_micro_batch_size_per_gpu": 2}
    assert point["training_args"]["learning_rate"] == 1e-5
    assert point["wandb_group"] is None


def test_brackets_of_many_rungs_are_those_that_fit(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, ADAPTIVE_WITH_MANY_RUNGS)
    assert spec.search.mode is Mode.STANDARD
    assert [len(bracket.lengths) for bracket in plan_search(spec.search).brackets] == [4, 3, 2]
    spec, _ = read(tmp_path, HALVING_WITH_MANY_RUNGS)
    assert [len(bracket.lengths) for bracket in plan_search(spec.search).brackets] == [3]


@pytest.mark.parametrize("entrypoint", ["python3 train.py", "model_def:MNistTrial"])
@pytest.mark.parametrize(
    ("max_length", "period", "advice"),
    [
        ("{epochs: 4}", "{batches: 50}", "add records_per_epoch: n and the hyperparameter global_batch_size: n"),
        ("{batches: 400}", "{epochs: 1}", "add records_per_epoch: n and the hyperparameter global_batch_size: n"),
        ("{records: 400}", "{epochs: 1}", "add records_per_epoch: n"),
        ("400", "{epochs: 1}", "use the same unit for both"),
    ],
)
def test_period_in_another_unit_is_a_warning_for_code_that_may_convert_it(
    tmp_path: Path, entrypoint: str, max_length: str, period: str, advice: str
) -> None:
    text = (
        f"entrypoint: {entrypoint}\nhyperparameters: {{lr: {{type: double, minval: 0, maxval: 1}}}}\n"
        f"searcher: {{name: random, metric: loss, max_trials: 2, max_length: {max_length}}}\n"
        f"min_validation_period: {period}\n"
    )
    _, warnings = read(tmp_path, text)
    [warning] = [warning for warning in warnings if "min_validation_period" in warning]
    assert "which only trial classes and Core API scripts of Determined convert; for other training code, " in warning
    assert advice in warning


# searcher -> key, fragments of the message
REFUSED = {
    "name: custom, unit: batches": ("searcher.name", ["use adaptive_asha"]),
    "name: single, unit: epochs": ("searcher.unit", ["max_length: {epochs: n}"]),
    "name: adaptive_asha, max_trials: 500": (
        "searcher.max_length",
        ["is missing", "or time_metric: epochs and max_time: n, as in Determined 0.38"],
    ),
    "name: adaptive, max_length: {batches: 640}, budget: {batches: 6000}": ("searcher.name", ["use adaptive_asha"]),
    "name: pbt, population_size: 9": ("searcher.name", ["use adaptive_asha"]),
    "name: random, max_steps: 100, max_trials: 2": ("searcher.max_steps", ["max_length: {batches: 10000}"]),
    "name: adaptive_asha, max_trials: 9, max_length: {epochs: 4}, time_metric: batches, max_time: 4": (
        "searcher.max_time",
        ["contradicts max_length"],
    ),
}


def test_warnings_say_what_only_trial_classes_use(tmp_path: Path) -> None:
    searcher = "searcher: {name: single, metric: loss, max_length: 1}\n"
    keys = "scheduling_unit: 10\nperform_initial_validation: true\noptimizations: {aggregation_frequency: 2}\n"
    _, warnings = read(tmp_path, f"entrypoint: a:b\n{searcher}{keys}debug: true\n")
    classes = [warning.split(": ")[1] for warning in warnings if "has an effect only for trial classes" in warning]
    assert sorted(classes) == ["optimizations", "perform_initial_validation", "scheduling_unit"]
    assert [warning for warning in warnings if "debug: has no effect; " in warning]


@pytest.mark.parametrize("searcher", REFUSED)
def test_searcher_that_cannot_be_offered_says_what_to_write(tmp_path: Path, searcher: str) -> None:
    key, fragments = REFUSED[searcher]
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, f"entrypoint: a:b\nsearcher: {{metric: loss, {searcher}}}\n")
    [message] = [each.message for each in raised.value.problems if each.key == key]
    assert [fragment for fragment in fragments if fragment not in message] == []
