"""Valid files: the specs that they give, and their warnings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from ashwood.config import read_experiment, reread_experiment
from ashwood.errors import ConfigError
from ashwood.experiment.spec import CheckpointPolicy, Entrypoint, EntrypointKind, ExperimentSpec, Length, SaveOn, Unit
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.space import Categorical, Const, Double, Int, Log, Space

FILES = Path(__file__).parent / "files"
LEAST = """\
searcher: {name: random, metric: loss, max_trials: 20, max_length: 16}
entrypoint: train:main
hyperparameters: {lr: {type: log, minval: -4, maxval: -1}}
"""


def read(tmp_path: Path, text: str) -> tuple[ExperimentSpec, tuple[str, ...]]:
    file = tmp_path / "my_search.yaml"
    file.write_text(text)
    loaded = read_experiment(file)
    return loaded.spec, tuple(warning.removeprefix(f"{file}:") for warning in loaded.warnings)


def test_minimal_file_gets_all_defaults(tmp_path: Path) -> None:
    spec, warnings = read(tmp_path, LEAST)

    assert warnings == ()
    assert spec == ExperimentSpec(
        name="my_search",
        space=Space({"lr": Log(-4, -1)}),
        search=SearchSettings(method=Method.RANDOM, max_length=16, max_trials=20),
        metric="loss",
        unit=Unit.STEPS,
        entrypoint=Entrypoint(EntrypointKind.FUNCTION, "train:main"),
        workdir=str(tmp_path),
        seed=0,
        max_preemptions=20,
        max_common_failures=3,
        max_log_size=100_000_000,
        checkpoint_policy=CheckpointPolicy(0, 1, 1),
        config_text=LEAST,
    )


def test_seed_of_file_takes_precedence(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(LEAST)
    assert read_experiment(file, default_seed=5).spec.seed == 5
    file.write_text(LEAST + "reproducibility: {experiment_seed: 0}\n")
    assert read_experiment(file, default_seed=5).spec.seed == 0


def test_all_fields_are_read(tmp_path: Path) -> None:
    spec, warnings = read(
        tmp_path,
        """\
name: all of them
description: every field
labels: [a, b]
data: {path: /d, sizes: [1, 2], deep: {x: null}}
hyperparameters:
  global_batch_size: {type: categorical, vals: [16, 32]}
  n: {type: int, minval: 1, maxval: 9, count: 3}
  x: {type: double, minval: 0, maxval: 1e-4}
  y: {type: log, minval: -3, maxval: 3, base: 2}
  c: {type: const, val: {type: free}}
  none: null
  list: [1, a, {b: c}]
  empty: {}
  block: {type: {type: categorical, vals: [conv, dense]}, width: 3}
searcher:
  name: adaptive_asha
  metric: accuracy
  smaller_is_better: false
  max_length: {records: 100_000}
  max_trials: 7
  max_concurrent_trials: 0
  mode: conservative
  divisor: 2.7
  max_rungs: 2
  stop_once: true
  source_trial_id: 3/17
entrypoint: sub/train.py:main
records_per_epoch: 1000
min_validation_period: {epochs: 2}
min_checkpoint_period: {batches: 30}
max_restarts: 0
checkpoint_storage: ckpt
resources: {gpus_per_trial: 2}
reproducibility: {experiment_seed: 2147483647}
environment: {environment_variables: {A: b=c, N: 3}}
""",
    )

    assert warnings == ()
    assert spec.space.tree == {
        "global_batch_size": Categorical((16, 32)),
        "n": Int(1, 9, 3),
        "x": Double(0, 1e-4),
        "y": Log(-3, 3, 2),
        "c": Const({"type": "free"}),
        "none": Const(None),
        "list": Const([1, "a", {"b": "c"}]),
        "empty": Const({}),
        "block": {"type": Categorical(("conv", "dense")), "width": Const(3)},
    }
    assert spec.search == SearchSettings(
        method=Method.ADAPTIVE_ASHA,
        max_length=100_000,
        max_trials=7,
        max_concurrent_trials=0,
        mode=Mode.CONSERVATIVE,
        divisor=Fraction(27, 10),
        max_rungs=2,
        stop_once=True,
    )
    assert (spec.name, spec.description, spec.labels) == ("all of them", "every field", ("a", "b"))
    assert spec.data == {"path": "/d", "sizes": [1, 2], "deep": {"x": None}}
    assert (spec.metric, spec.smaller_is_better, spec.unit) == ("accuracy", False, Unit.RECORDS)
    assert spec.entrypoint == Entrypoint(EntrypointKind.SCRIPT, "sub/train.py:main")
    assert (spec.records_per_epoch, spec.max_restarts, spec.seed) == (1000, 0, 2**31 - 1)
    assert spec.min_validation_period == Length(2, Unit.EPOCHS)
    assert spec.min_checkpoint_period == Length(30, Unit.BATCHES)
    assert spec.checkpoint_storage == str(tmp_path / "ckpt")
    assert (spec.slots_per_trial, spec.source_checkpoint) == (2, "3/17")
    assert spec.environment == {"A": "b=c", "N": "3"}


@pytest.mark.parametrize(
    ("fields", "audit"),
    [
        ("name: adaptive_asha", "0"),
        ("name: adaptive_asha, mode: conservative, audit: 0.1", "0.1"),
        ("name: adaptive_asha, mode: auto", "0.03"),
        ("name: adaptive_asha, mode: auto, audit: 0", "0"),
        ("name: adaptive_asha, mode: auto, stop_once: true", "0"),
        ("name: adaptive_asha, mode: auto, bracket_rungs: [2]", "0"),
        ("name: adaptive_asha, stop_once: true, audit: 0", "0"),
        ("name: async_halving", "0"),
        ("name: async_halving, audit: 0.7", "0.7"),
    ],
)
def test_share_of_audits_is_read_exactly(tmp_path: Path, fields: str, audit: str) -> None:
    spec, _ = read(tmp_path, LEAST.replace("name: random", fields))
    assert spec.search.audit == Fraction(audit)


# -- Determined's files ---------------------------------------------------------------------------


def test_mnist_file_of_determined_is_read() -> None:
    loaded = read_experiment(FILES / "mnist_adaptive.yaml")
    assert loaded.spec.search.method is Method.ADAPTIVE_ASHA
    assert (loaded.spec.search.max_length, loaded.spec.unit) == (16, Unit.EPOCHS)
    assert loaded.spec.search.mode is Mode.AGGRESSIVE
    assert loaded.spec.min_validation_period == Length(100, Unit.BATCHES)
    assert [name for (name, *_), _ in loaded.spec.space.leaves()].count("optimizer") == 2
    assert not loaded.warnings  # not even of the trial class


def test_imagenet_file_of_determined_is_read() -> None:
    loaded = read_experiment(FILES / "imagenet_distributed.yaml")
    spec = loaded.spec
    assert spec.search.method is Method.ASYNC_HALVING
    assert (spec.search.num_rungs, spec.search.divisor, spec.search.stop_once) == (3, Fraction(3), True)
    assert spec.entrypoint == Entrypoint(EntrypointKind.COMMAND, "python3 train.py --data /mnt/data/imagenet")
    assert spec.checkpoint_storage == "/mnt/checkpoints/imagenet"
    assert (spec.save_on, spec.checkpoint_policy) == (SaveOn.BEST, CheckpointPolicy(0, 1, 1))
    assert spec.environment["NCCL_SOCKET_IFNAME"] == "ens,eth,ib"
    assert spec.slots_per_trial == 8
    head = spec.space.tree["head_schedule"]
    assert isinstance(head, dict)
    assert head["warmup_epochs"] == Const(0)
    assert head["base"] == Log(-2, 0)
    named = [warning.split(": ")[1] for warning in loaded.warnings]
    assert named == [
        "workspace",
        "project",
        "bind_mounts",
        "environment.image",
        "environment.environment_variables",
        "resources.resource_pool",
        "resources.priority",
        "resources.shm_size",
        "resources.max_slots",
        "optimizations",
        "scheduling_unit",
        "perform_initial_validation",
        "profiling",
    ]
    assert not any("\n" in warning for warning in loaded.warnings)


def test_time_metric_file_of_determined_is_read() -> None:
    spec = read_experiment(FILES / "core_api_time_metric.yaml").spec
    assert (spec.search.max_length, spec.unit) == (12, Unit.EPOCHS)
    assert spec.entrypoint.kind is EntrypointKind.COMMAND


@pytest.mark.parametrize(
    "text",
    [
        "checkpoint_storage: {type: shared_fs, host_path: /a, propagation: rprivate}",
        "debug: false",
        "bind_mounts: []",
        "resources: {weight: 2}",
        "environment: {pod_spec: {spec: {}}}",
        "integrations: {webhooks: {}}",
    ],
)
def test_key_without_effect_gives_one_warning(tmp_path: Path, text: str) -> None:
    _, [warning] = read(tmp_path, LEAST + text)
    assert warning.startswith("4: ")
    assert "no effect" in warning


def test_null_means_default(tmp_path: Path) -> None:
    text = LEAST.replace("16}", "16, mode: null, stop_once: null}")
    text += "labels: null\nresources: {slots_per_trial: null, weight: null}\nbind_mounts: null\nenvironment:\n"
    spec, warnings = read(tmp_path, text)
    assert warnings == ()
    assert (spec.labels, spec.slots_per_trial) == ((), 1)


# -- the search -------------------------------------------------------------------------------------


def with_searcher(searcher: str, hyperparameters: str = "{n: {type: int, minval: 1, maxval: 3, count: 9}}") -> str:
    return f"entrypoint: a:b\nsearcher: {{metric: loss, {searcher}}}\nhyperparameters: {hyperparameters}\n"


def test_grid_creates_one_trial_per_point(tmp_path: Path) -> None:
    grid = "{n: {type: int, minval: 1, maxval: 3, count: 9}, in: {o: {type: categorical, vals: [a, b]}}, c: 1}"
    spec, warnings = read(tmp_path, with_searcher("name: grid, max_length: 3", grid))
    assert spec.search.max_trials == spec.space.grid_size() == 6
    assert warnings == ()


def test_grid_warns_that_max_trials_has_no_effect(tmp_path: Path) -> None:
    spec, [warning] = read(tmp_path, with_searcher("name: grid, max_length: 3, max_trials: 7"))
    assert spec.search.max_trials == 3
    assert "3 points" in warning


def test_single_creates_one_trial(tmp_path: Path) -> None:
    spec, [warning] = read(tmp_path, with_searcher("name: single, max_length: 3"))
    assert spec.search.max_trials == 1
    assert "n will have one value" in warning


@pytest.mark.parametrize(
    ("searcher", "rungs"),
    [
        ("name: adaptive_asha, max_trials: 9, max_length: 1000, divisor: 10, bracket_rungs: [4, 1]", (4, 1)),
        ("name: adaptive_asha, max_trials: 9, max_length: 16, bracket_rungs: [3]", (3,)),
    ],
)
def test_bracket_rungs_are_allowed_up_to_exact_limit(tmp_path: Path, searcher: str, rungs: tuple[int, ...]) -> None:
    spec, _ = read(tmp_path, with_searcher(searcher))
    assert spec.search.bracket_rungs == rungs


def test_default_num_rungs_is_capped(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, with_searcher("name: async_halving, max_trials: 9, max_length: 2"))
    assert spec.search.num_rungs is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("2.7", Fraction(27, 10)), ("1.1", Fraction(11, 10)), ("3", Fraction(3)), ("1e1", Fraction(10))],
)
def test_divisor_is_exact_decimal(tmp_path: Path, text: str, number: Fraction) -> None:
    spec, _ = read(tmp_path, with_searcher(f"name: adaptive_asha, max_trials: 9, max_length: 16, divisor: {text}"))
    assert spec.search.divisor == number


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("max_length: 3", 3, Unit.STEPS),
        ("max_length: {batches: 3}", 3, Unit.BATCHES),
        ("time_metric: batches, max_time: 3", 3, Unit.BATCHES),
        ("time_metric: records, max_time: 3", 3, Unit.RECORDS),
        ("time_metric: tokens, max_time: 3", 3, Unit.STEPS),
    ],
)
def test_max_length_is_read_in_both_spellings(tmp_path: Path, text: str, count: int, unit: Unit) -> None:
    spec, warnings = read(tmp_path, with_searcher(f"name: random, max_trials: 9, {text}"))
    assert (spec.search.max_length, spec.unit) == (count, unit)
    assert ("tokens" in text) == any("is not a unit" in warning for warning in warnings)


def test_reduced_rungs_give_the_brackets_that_fit(tmp_path: Path) -> None:
    text = "name: async_halving, max_trials: 99, max_length: 16, num_rungs: 9"
    spec, _ = read(tmp_path, with_searcher(text, "{x: {type: double, minval: 0, maxval: 1}}"))
    [bracket] = plan_search(spec.search).brackets
    assert bracket.lengths == (1, 4, 16)


def test_no_warning_about_a_rung_that_mode_auto_adds(tmp_path: Path) -> None:
    text = "name: adaptive_asha, mode: auto, divisor: 4, max_trials: 999, max_length: 17, max_rungs: {}"
    space = "{x: {type: double, minval: 0, maxval: 1}}"
    assert read(tmp_path, with_searcher(text.format(4), space))[1] == ()
    assert len(read(tmp_path, with_searcher(text.format(5), space))[1]) == 1


@pytest.mark.parametrize("name", ["random, max_trials: 3", "grid", "single"])
def test_file_without_max_length_leaves_the_length_to_training_code(tmp_path: Path, name: str) -> None:
    text = "min_validation_period: {epochs: 1}\nmin_checkpoint_period: {batches: 100}\n"
    spec, warnings = read(tmp_path, with_searcher(f"name: {name}", "{x: {type: categorical, vals: [1, 2, 3]}}") + text)
    assert spec.search.open_ended
    assert spec.unit is Unit.STEPS
    assert len(warnings) == (name == "single")  # It warns that one value is drawn.
    assert (spec.min_validation_period, spec.min_checkpoint_period) == (
        Length(1, Unit.EPOCHS),
        Length(100, Unit.BATCHES),
    )


def test_file_with_max_length_is_not_open_ended(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, LEAST)
    assert not spec.search.open_ended


def test_bare_max_length_gets_the_unit_of_time_metric(tmp_path: Path) -> None:
    text = "name: random, max_trials: 3, max_length: 9, time_metric: epochs, max_time: 9"
    spec, [warning] = read(tmp_path, with_searcher(text, "{x: {type: double, minval: 0, maxval: 1}}"))
    assert (spec.search.max_length, spec.unit) == (9, Unit.EPOCHS)
    assert "one of the two can be removed" in warning


def test_search_alone_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text("searcher: {name: adaptive_asha, metric: loss, max_length: 64, max_trials: 20}\n")
    loaded = read_experiment(file, search_only=True)
    assert (loaded.spec.search.max_trials, loaded.warnings) == (20, ())
    with pytest.raises(ConfigError, match="entrypoint: is missing"):
        read_experiment(file)
    file.write_text("searcher: {name: grid, metric: loss, max_length: 64}\n")
    with pytest.raises(ConfigError, match="hyperparameters: is missing: a grid search needs them"):
        read_experiment(file, search_only=True)


def test_zero_period_means_none(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, LEAST + "min_validation_period: {batches: 0}\nmin_checkpoint_period: 0\n")
    assert (spec.min_validation_period, spec.min_checkpoint_period) == (None, None)


@pytest.mark.parametrize(
    ("searcher", "hyperparameters", "fragment"),
    [
        (
            "name: random, max_trials: 9, max_length: {batches: 9}",
            "{global_batch_size: {type: int, minval: 8, maxval: 64}}",
            "for a fair comparison, use records or epochs",
        ),
        (
            "name: random, max_trials: 9, max_length: 9",
            "{lr: {type: log, minval: 0.0001, maxval: 0.1}}",
            "write minval: -4, maxval: -1",
        ),
        (
            "name: random, max_trials: 9, max_length: 9",
            "{lr: 1}",
            "no hyperparameter varies: all 9 trials",
        ),
        (
            "name: adaptive_asha, max_trials: 9, max_length: 9, bracket_rungs: [1], mode: standard",
            "{n: {type: int, minval: 8, maxval: 64}}",
            "bracket_rungs defines the brackets",
        ),
        *(
            (searcher, "{x: {type: double, minval: 0, maxval: 1}}", fragment)
            for searcher, fragment in (
                ("name: async_halving, max_trials: 99, max_length: 16, num_rungs: 4", "num_rungs: 4 is reduced to 3"),
                ("name: sync_halving, max_trials: 3, max_length: 16, num_rungs: 2", "max_trials 3 has room for 1 rung"),
                ("name: adaptive_asha, max_trials: 99, max_length: 16, max_rungs: 5", "max_rungs: 5 is reduced to 3"),
                ("name: random, max_trials: 9, max_length: {epochs: 4}, max_time: 4", "says the same as max_length"),
                ("name: random, max_trials: 9, max_length: {epochs: 4}, time_metric: epochs", "says the same"),
            )
        ),
    ],
)
def test_probable_mistake_is_a_warning(tmp_path: Path, searcher: str, hyperparameters: str, fragment: str) -> None:
    _, [warning] = read(tmp_path, with_searcher(searcher, hyperparameters))
    assert fragment in warning


def test_source_checkpoint_is_path_or_printed_name(tmp_path: Path) -> None:
    base = "name: random, max_trials: 9, max_length: 9, source_checkpoint_uuid: "
    for written, read_as in {
        "/a/b": "/a/b",
        "b/c": str(tmp_path / "b/c"),
        "3/trial-17/length-16-attempt-1": "3/trial-17/length-16-attempt-1",
    }.items():
        spec, _ = read(tmp_path, with_searcher(base + written))
        assert spec.source_checkpoint == read_as


# -- entry points, slots and checkpoints ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("train:main", EntrypointKind.FUNCTION, "train:main"),
        ("pkg.sub.train:main", EntrypointKind.FUNCTION, "pkg.sub.train:main"),
        ("train.py:main", EntrypointKind.SCRIPT, "train.py:main"),
        ("../src/train.py:main", EntrypointKind.SCRIPT, "../src/train.py:main"),
        ("./hello.sh", EntrypointKind.COMMAND, "./hello.sh"),
        ("python train.py --lr {lr}", EntrypointKind.COMMAND, "python train.py --lr {lr}"),
        ("echo ${HOME} {{x}} {a,b} {}", EntrypointKind.COMMAND, "echo ${HOME} {{x}} {a,b} {}"),
        ("[make]", EntrypointKind.COMMAND, "make"),
        ("[python, my file.py, '--lr={lr}', '{lr}']", EntrypointKind.COMMAND, "python 'my file.py' --lr={lr} {lr}"),
        ("[sh, '-c', 'a b{lr}']", EntrypointKind.COMMAND, "sh -c 'a b'{lr}"),
    ],
)
def test_entrypoint_is_read_in_all_forms(tmp_path: Path, text: str, kind: EntrypointKind, target: str) -> None:
    quoted = f'"{text}"' if not text.startswith("[") else text
    spec, _ = read(tmp_path, LEAST.replace("train:main", quoted))
    assert spec.entrypoint == Entrypoint(kind, target)


def test_placeholders_can_name_maps_and_keys_of_constants(tmp_path: Path) -> None:
    text = LEAST.replace("train:main", '"run {opt} {opt.lr} {c.d}"').replace(
        "{lr:", "{c: {type: const, val: {d: 1}}, opt: {lr:"
    )
    spec, _ = read(tmp_path, text.rstrip() + "}\n")
    assert spec.entrypoint.kind is EntrypointKind.COMMAND


def test_placeholders_can_name_trial_and_experiment(tmp_path: Path) -> None:
    command = "run {args} {trial.id} {trial.seed} {experiment.id} {experiment.name}"
    spec, _ = read(tmp_path, LEAST.replace("train:main", f'"{command}"'))
    assert spec.entrypoint == Entrypoint(EntrypointKind.COMMAND, command)


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        ("{}", 1),
        ("{slots_per_trial: 0}", 1),
        ("{slots_per_trial: 4}", 4),
        ("{cpus_per_trial: 3}", 3),
        ("{gpus_per_trial: 2}", 2),
        ("{gpus_per_trial: 0, cpus_per_trial: 3}", 3),
        ("{gpus_per_trial: 2, slots_per_trial: 2}", 2),
    ],
)
def test_resources_give_slots(tmp_path: Path, resources: str, slots: int) -> None:
    spec, _ = read(tmp_path, LEAST + f"resources: {resources}\n")
    assert spec.slots_per_trial == slots


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ("/abs", "/abs"),
        ("file:///abs", "/abs"),
        ("{type: directory, container_path: /c}", "/c"),
        ("{type: shared_fs, host_path: /h}", "/h"),
        ("{type: shared_fs, host_path: /h, storage_path: in}", "/h/in"),
        ("{type: shared_fs, host_path: /h, storage_path: /h/in}", "/h/in"),
        ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
        ("gs://bucket", "gs://bucket"),
        ("az://container/x", "az://container/x"),
        ("s3://bucket?endpoint_url=https://host:9000", "s3://bucket?endpoint_url=https://host:9000"),
        ("{type: s3, bucket: b}", "s3://b"),
        ("{type: s3, bucket: b, prefix: /p/q/, access_key: null}", "s3://b/p/q"),
        ("{type: s3, bucket: b, endpoint_url: 'http://host:9000'}", "s3://b?endpoint_url=http://host:9000"),
        ("{type: gcs, bucket: b, prefix: p}", "gs://b/p"),
        ("{type: azure, container: c, prefix: p}", "az://c/p"),
        (
            "{type: azure, container: c, account_url: 'https://team.blob.core.windows.net'}",
            "az://c?account_name=team",
        ),
    ],
)
def test_checkpoint_storage_is_directory_or_url(tmp_path: Path, storage: str, expected: str) -> None:
    spec, warnings = read(tmp_path, LEAST + f"checkpoint_storage: {storage}\n")
    assert spec.checkpoint_storage == expected
    assert spec.checkpoint_policy == CheckpointPolicy(0, 1, 1)
    assert warnings == ()


@pytest.mark.parametrize(
    ("storage", "expected", "place"),
    [
        ("{save_trial_best: 2}", CheckpointPolicy(0, 2, 1), None),
        ("{save_experiment_best: 5, save_trial_best: 0, save_trial_latest: null}", CheckpointPolicy(5, 0, 1), None),
        ("{type: s3, bucket: b, save_experiment_best: 1}", CheckpointPolicy(1, 1, 1), "s3://b"),
        ("{type: shared_fs, host_path: /h, save_trial_latest: 3}", CheckpointPolicy(0, 1, 3), "/h"),
    ],
)
def test_checkpoint_policy_is_read(tmp_path: Path, storage: str, expected: CheckpointPolicy, place: str | None) -> None:
    spec, warnings = read(tmp_path, LEAST + f"checkpoint_storage: {storage}\n")
    assert (spec.checkpoint_policy, spec.checkpoint_storage) == (expected, place)
    assert warnings == ()


def test_keeping_no_checkpoint_is_a_warning(tmp_path: Path) -> None:
    storage = "{save_experiment_best: 0, save_trial_best: 0, save_trial_latest: 0}"
    spec, [warning] = read(tmp_path, LEAST + f"checkpoint_storage: {storage}\n")
    assert spec.checkpoint_policy == CheckpointPolicy(0, 0, 0)
    assert "no checkpoint of a trial is kept once it has ended" in warning


def test_source_checkpoint_can_be_url(tmp_path: Path) -> None:
    place = "s3://bucket/prefix/trial-3/length-4-attempt-1"
    text = LEAST.replace("max_length: 16", f"max_length: 16, source_checkpoint_uuid: '{place}'")
    assert read(tmp_path, text)[0].source_checkpoint == place


# -- the file itself -----------------------------------------------------------------------------------


def test_missing_file_error_suggests_similar_file(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(LEAST)
    with pytest.raises(ConfigError, match=r"digit\.yaml: there is no such file; did you mean .*digits\.yaml\?"):
        read_experiment(tmp_path / "digit.yaml")
    with pytest.raises(ConfigError, match="nor a directory"):
        read_experiment(tmp_path / "nowhere" / "digit.yaml")


def test_directory_error_suggests_file_inside(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(LEAST)
    with pytest.raises(ConfigError, match=r"is a directory; .* for example .*digits\.yaml"):
        read_experiment(tmp_path)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"PK\n\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"model\.pt:2: isn't a text file"):
        read_experiment(file)


def test_byte_order_mark_and_crlf_are_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert read_experiment(file).spec.metric == "loss"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("90s", 90.0),
        ("15min", 900.0),
        ("2h", 7200.0),
        ("1.5h", 5400.0),
        ("3d", 259200.0),
        ("1h 30min", 5400.0),
    ],
)
def test_stop_when_is_read(tmp_path: Path, written: str, seconds: float) -> None:
    given = f"max_length: 16, stop_when: {{metric_at: -2, max_time: {written}}}"
    spec, _ = read(tmp_path, LEAST.replace("max_length: 16", given))
    assert (spec.metric_at, spec.max_time) == (-2.0, seconds)


def test_store_is_not_part_of_spec(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(LEAST + "store: postgresql://db.lab/ashwood\nmax_common_failures: 0\n")
    loaded = read_experiment(file)
    assert loaded.store == "postgresql://db.lab/ashwood"
    assert loaded.warnings == ()
    assert loaded.spec.max_common_failures == 0
    file.write_text(LEAST + "store: postgresql://me:secret@db.lab/ashwood\n")
    [warning] = read_experiment(file).warnings
    assert "a.yaml:4: store: contains a password" in warning
    assert "secret" not in warning


def test_recorded_file_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(LEAST)
    spec = read_experiment(file, overrides=["searcher.max_trials=5"], default_seed=7).spec
    file.unlink()
    assert reread_experiment(spec, overrides=["searcher.max_trials=5"]).spec == spec
    again = reread_experiment(spec, overrides=["searcher.max_trials=5", "searcher.max_trials=6"]).spec
    assert again.search.max_trials == 6
    with pytest.raises(ConfigError, match=r"--set: searcher\.max_trails"):
        reread_experiment(spec, overrides=["searcher.max_trails=6"])
