"""The integration of Hugging Face Transformers, with the real `Trainer` and tiny models on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ashwood
from ashwood.backends.local.backend import LocalBackend
from ashwood.errors import TrainingCodeError
from ashwood.experiment.events import CheckpointSaved, Event, ValidationReported
from ashwood.experiment.spec import Entrypoint, EntrypointKind, SaveOn, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Int
from ashwood.testing.backend import drive, finish, job, toy_spec
from ashwood.trial.attempt import Ended, Failed, Stopped
from ashwood.trial.run import run
from tests.integrations import kit
from tests.trial.links import PAUSE, ScriptedLink, make_job

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")
torch.set_num_threads(1)  # Threads of a tiny model wait for each other when other tests use the cores.


@pytest.fixture(autouse=True)
def one_thread_in_other_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # A trainer creates its output directory.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


Train = Callable[[ashwood.Trial], Any]


class Tokens(torch.utils.data.Dataset):  # type: ignore[name-defined, misc]
    """Random sequences of tokens.  The label is whether the first token is in the upper half."""

    def __init__(self, count: int, seed: int) -> None:
        self.tokens = torch.randint(20, (count, 6), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[index], "labels": int(self.tokens[index, 0] >= 10)}


class Stream(torch.utils.data.IterableDataset):  # type: ignore[name-defined, misc]
    """The same sequences again and again, without a length."""

    def __iter__(self) -> Any:
        return (TRAIN[index % len(TRAIN)] for index in count())


TRAIN, VALID = Tokens(40, 0), Tokens(30, 1)


def build() -> Any:
    config = hf.BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        num_labels=2,
    )
    return hf.BertForSequenceClassification(config)


def make_trainer(**settings: Any) -> Any:
    """Return a trainer of 5 steps in each epoch; settings are training arguments or arguments of the trainer."""
    names = ("model", "train_dataset", "eval_dataset", "callbacks", "compute_metrics")
    own = {name: settings.pop(name) for name in names if name in settings}
    defaults = {
        "output_dir": "output",
        "eval_strategy": "epoch",
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    args = hf.TrainingArguments(**defaults | settings)
    source = {} if "model" in own else {"model_init": build}
    return hf.Trainer(args=args, **{"train_dataset": TRAIN, "eval_dataset": VALID} | source | own)


def training(**settings: Any) -> Train:
    def train(trial: ashwood.Trial) -> None:
        ashwood.transformers.train(trial, make_trainer(**settings))

    return train


def one_attempt(train: Train, directory: Path, **fields: Any) -> tuple[Any, ScriptedLink]:
    """Train one attempt, and return how it ended and its messages."""
    link = ScriptedLink([PAUSE])
    common = {"metric": "eval_loss", "max_length": 4, "trial_directory": str(directory / "files")}
    return run(train, make_job(directory, **common | fields), link), link


def reports_of(train: Train, directory: Path, targets: Sequence[int], **fields: Any) -> list[tuple[int, Any]]:
    """Train one trial in attempts that end at ``targets``, and return its reports without times."""
    reports = []
    length, checkpoint = 0, None
    for attempt, target in enumerate(targets, start=1):
        where = {"attempt": attempt, "target": target, "length": length, "checkpoint": checkpoint}
        ended, link = one_attempt(train, directory, **where, **fields)
        assert ended == Ended(target)
        assert len(link.saves) == 1, "only the end of the attempt is saved"
        length, checkpoint = target, f"trial-7/{link.saves[0]}"
        for sent in link.sent:
            if sent[0] == "report":
                names = [name for name in sent[2] if "runtime" not in name and "per_second" not in name]
                reports.append((sent[1], {name: sent[2][name] for name in names}))
    return reports


def assert_pauses_change_nothing(train: Train, directory: Path, targets: Sequence[int], **fields: Any) -> list[int]:
    """Check that pauses at ``targets`` do not change a digit of any metric, and return the lengths of the reports."""
    interrupted = reports_of(train, directory / "interrupted", targets, **fields)
    assert interrupted == reports_of(train, directory / "undisturbed", targets[-1:], **fields)
    return [length for length, _ in interrupted]


PLATEAU = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "threshold": 1.0}}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"lr_scheduler_type": "cosine", "warmup_steps": 3}, id="cosine"),
        pytest.param(PLATEAU | {"metric_for_best_model": "loss"}, id="plateau"),
        pytest.param({"load_best_model_at_end": True, "save_strategy": "epoch", "save_total_limit": 1}, id="best"),
        pytest.param({"gradient_accumulation_steps": 2, "logging_steps": 2}, id="accumulation"),
        pytest.param({"save_only_model": True, "eval_on_start": True}, id="only-model"),
        pytest.param({"data_seed": 5, "seed": 6, "optim": "adafactor"}, id="seeds"),
    ],
)
def test_pauses_at_ends_of_epochs_change_no_metric(settings: dict[str, Any], tmp_path: Path) -> None:
    assert assert_pauses_change_nothing(training(**settings), tmp_path, [1, 3, 4]) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"gradient_accumulation_steps": 2}, id="accumulation"),
        pytest.param({"logging_steps": 7}, id="logging"),
        pytest.param({"train_dataset": Stream(), "max_steps": 1}, id="stream"),
    ],
)
def test_pauses_within_epochs_change_no_metric(settings: dict[str, Any], tmp_path: Path) -> None:
    train = training(eval_strategy="steps", eval_steps=3, **settings)
    lengths = assert_pauses_change_nothing(train, tmp_path, [3, 9, 14], unit="batches", max_length=14)
    assert lengths == [3, 6, 9, 12, 14]


def test_model_that_is_built_by_the_user_and_callback_alone_resume(tmp_path: Path) -> None:
    def train(trial: ashwood.Trial) -> None:
        hf.set_seed(trial.seed)
        trainer = make_trainer(model=build())
        trainer.add_callback(ashwood.transformers.Callback(trial, trainer))
        trainer.train(resume_from_checkpoint=trial.checkpoint)

    assert_pauses_change_nothing(train, tmp_path, [1, 3])


def build_vit() -> Any:
    config = hf.ViTConfig(
        image_size=4,
        patch_size=2,
        num_channels=1,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return hf.ViTForImageClassification(config)


def test_model_whose_weights_had_other_names_in_older_versions_resumes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [{"pixel_values": torch.randn(1, 4, 4, generator=generator), "labels": i % 2} for i in range(20)]

    def train(trial: ashwood.Trial) -> None:
        hf.set_seed(trial.seed)
        model = build_vit()
        ashwood.transformers.train(trial, make_trainer(model=model, train_dataset=images, eval_dataset=images))
        model.save_pretrained(trial.directory)  # in the usual format

    assert_pauses_change_nothing(train, tmp_path, [1, 3])
    [saved] = (tmp_path / "undisturbed").glob("trial-7/length-3*")
    found, expected = (build_vit().from_pretrained(path) for path in (saved, tmp_path / "undisturbed" / "files"))
    for (name, weights), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(weights, other), name


def test_checkpoint_that_the_trainer_cannot_load_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, link = one_attempt(training(), tmp_path, target=1)
    assert ended == Ended(1)
    load = hf.trainer.safetensors.torch.load_file

    def load_some(*args: Any, **kwargs: Any) -> Any:
        return {name: value for name, value in load(*args, **kwargs).items() if "embeddings" not in name}

    monkeypatch.setattr(hf.trainer.safetensors.torch, "load_file", load_some)
    resumed = {"attempt": 2, "length": 1, "checkpoint": f"trial-7/{link.saves[0]}"}
    ended, _ = one_attempt(training(), tmp_path, target=2, **resumed)
    assert isinstance(ended, Failed)
    assert "the checkpoint lacks 5 weights of the model, such as bert.embeddings." in ended.error


def test_evaluations_on_several_datasets_are_one_report(tmp_path: Path) -> None:
    train = training(eval_dataset={"a": VALID, "b": TRAIN}, compute_metrics=lambda _: {"f1": 0.5, "name": "x"})
    [(_, metrics)] = reports_of(train, tmp_path, [1], metric="eval_b_loss")
    training_metrics = {"loss", "grad_norm", "learning_rate", "epoch"}
    assert metrics.keys() == training_metrics | {"eval_a_loss", "eval_b_loss", "eval_a_f1", "eval_b_f1"}


@pytest.mark.timeout(600)
def test_search_that_pauses_promotes_and_kills_reports_the_same_metrics(tmp_path: Path) -> None:
    train = kit.load_example("transformers").train
    hparams = {"learning_rate": ashwood.Log(-3, -2), "batch_size": 200, "dropout": 0.1}
    reports = kit.assert_resumes(
        train,
        tmp_path,
        hparams=hparams,
        metric="eval_accuracy",
        smaller_is_better=False,
        max_length={"epochs": 8},
    )
    assert {"eval_loss", "loss"} <= set(reports.columns)


@pytest.mark.timeout(600)
def test_example_runs(tmp_path: Path) -> None:
    out = kit.run_example("transformers", tmp_path, "searcher.max_trials=2", "searcher.max_length.epochs=2")
    assert "eval_accuracy" in out


def test_checkpoint_is_a_model_directory_with_the_log_of_its_evaluation(tmp_path: Path) -> None:
    trained: dict[str, Any] = {}

    def train(trial: ashwood.Trial) -> None:
        trained["trainer"] = make_trainer()
        ashwood.transformers.train(trial, trained["trainer"])

    train(ashwood.get_trial(epochs=2, checkpoint_dir=str(tmp_path)))
    saved = tmp_path / "trial-0" / "length-2-attempt-1"
    model = hf.BertForSequenceClassification.from_pretrained(saved)
    for name, weights in trained["trainer"].model.state_dict().items():
        assert torch.equal(weights, model.state_dict()[name]), name
    log = json.loads((saved / "trainer_state.json").read_text())["log_history"]
    assert [(entry["step"], "eval_loss" in entry) for entry in log[-2:]] == [(10, False), (10, True)]
    train(ashwood.get_trial(epochs=3, checkpoint=str(saved), checkpoint_dir=str(tmp_path)))
    assert trained["trainer"].state.global_step == 15


def test_trainer_gets_the_seed_the_length_and_the_directory_of_the_trial(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def train(trial: ashwood.Trial) -> None:
        seen["trainer"] = make_trainer(output_dir=tmp_path / "shared", save_steps=1)
        seen["directory"] = trial.directory
        ashwood.transformers.train(trial, seen["trainer"])

    one_attempt(train, tmp_path, target=1, seed=2**40 + 3)
    args = seen["trainer"].args
    assert (args.seed, args.num_train_epochs, args.output_dir) == (3, 4.0, str(seen["directory"]))
    assert seen["trainer"].lr_scheduler.get_last_lr()[0] == pytest.approx(1e-2 * 15 / 20)
    assert not any(seen["directory"].iterdir()), "the trainer saves nothing by itself"
    assert not any((tmp_path / "shared").iterdir())


def test_seed_and_subdirectory_of_the_user_are_kept(tmp_path: Path) -> None:
    def train(trial: ashwood.Trial) -> None:
        trainer = make_trainer(seed=11, output_dir=trial.directory / "run", load_best_model_at_end=True, save_steps=2,
                               eval_steps=2, eval_strategy="steps")  # fmt: skip
        ashwood.transformers.train(trial, trainer)
        assert trainer.args.seed == 11
        assert (trial.directory / "run" / "checkpoint-4").is_dir()

    ended, _ = one_attempt(train, tmp_path, target=4, unit="steps")
    assert ended == Ended(4)


def test_early_stopping_counts_across_pauses_and_ends_the_trial(tmp_path: Path) -> None:
    def train(trial: ashwood.Trial) -> None:
        stopping = hf.EarlyStoppingCallback(early_stopping_patience=3, early_stopping_threshold=100)
        trainer = make_trainer(callbacks=[stopping], metric_for_best_model="loss", greater_is_better=False)
        ashwood.transformers.train(trial, trainer)
        assert trial.length == 2

    common = {"max_length": 8}
    ended, link = one_attempt(train, tmp_path, target=2, **common)
    assert ended == Ended(2)
    resumed = {"attempt": 2, "length": 2, "checkpoint": f"trial-7/{link.saves[0]}"}
    ended, link = one_attempt(train, tmp_path, target=8, **resumed, **common)
    assert ended == Stopped()
    assert (link.reports, link.saves) == ([3, 4], ["length-4-attempt-2"])


def test_code_after_the_training_runs_when_the_search_stops_the_trial(tmp_path: Path) -> None:
    def train(trial: ashwood.Trial) -> None:
        found = ashwood.transformers.train(trial, make_trainer())
        (tmp_path / "steps").write_text(str(found.global_step))

    ended, _ = one_attempt(train, tmp_path, target=2)
    assert ended == Ended(2)
    assert (tmp_path / "steps").read_text() == "10"


def test_metric_that_is_not_reported_is_named_with_those_that_are(tmp_path: Path) -> None:
    ended, _ = one_attempt(training(), tmp_path, target=1, max_length=1, metric="eval_los")
    assert isinstance(ended, Failed)
    assert ended.error.startswith(
        "the training code ended at 1 epoch without reporting 'eval_los' (did you mean 'eval_loss'?)\nIt reported"
    )


@pytest.mark.parametrize(
    ("settings", "fields", "error"),
    [
        ({"eval_strategy": "no"}, {}, 'eval_strategy is "no", so there is nothing to report'),
        ({"eval_strategy": "steps", "eval_steps": 5}, {}, 'eval_strategy is "steps": set eval_strategy="epoch", or'),
        (
            {},
            {"unit": "records"},
            "the integration of Transformers cannot count records: write",
        ),
        ({"ignore_data_skip": True}, {}, "ignore_data_skip=True would train on the wrong data"),
        ({"train_dataset": Stream(), "max_steps": 5}, {}, "the training data has no length, so epochs cannot be"),
        (
            {},
            {"world_size": 2},
            "the trainer has 1 processes, the trial 2: start them as one",
        ),
    ],
)
def test_setting_that_cannot_work_is_refused(
    settings: dict[str, Any], fields: dict[str, Any], error: str, tmp_path: Path
) -> None:
    trial = SimpleNamespace(**{"unit": "epochs", "max_length": 4, "world_size": 1} | fields)
    with pytest.raises(TrainingCodeError) as raised:
        ashwood.transformers.check(trial, make_trainer(output_dir=tmp_path, **settings))
    assert str(raised.value).startswith(error)


def test_trainer_that_has_trained_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(output_dir=tmp_path / "shared")

    def train(trial: ashwood.Trial) -> None:
        ashwood.transformers.train(trial, trainer)

    one_attempt(train, tmp_path, target=1)
    ended, _ = one_attempt(train, tmp_path, target=1)
    assert isinstance(ended, Failed)
    assert "this trainer has trained before: create a new one" in ended.error


RANKS = """
import sys
sys.path.insert(0, {root!r})
import ashwood
from tests.integrations.test_transformers import make_trainer

ashwood.transformers.train(ashwood.get_trial(), make_trainer(eval_strategy="steps", eval_steps=2))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_pause_and_continue_from_their_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(RANKS.format(root=str(Path(__file__).parents[2])))
    command = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 train.py"
    spec = toy_spec(
        tmp_path,
        entrypoint=Entrypoint(EntrypointKind.COMMAND, command),
        metric="eval_loss",
        unit=Unit.BATCHES,
        search=SearchSettings(method=Method.RANDOM, max_length=6, max_trials=1),
        slots_per_trial=2,
        save_on=SaveOn.ALL,
    )
    backend = LocalBackend(spec, checkpoints=tmp_path / "checkpoints", logs=tmp_path / "logs", workers=1)
    try:
        whole = drive(backend, [job(target=6)], finish)
        checkpoint = next(e.path for e in whole if isinstance(e, CheckpointSaved) and e.length == 4)
        resumed = drive(backend, [job(target=6, attempt=2, length=4, checkpoint=checkpoint)], finish)
    finally:
        backend.close()
    files = {path.name for path in (tmp_path / "checkpoints" / checkpoint).iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json", "optimizer.pt"} <= files

    def losses(events: list[Event]) -> list[tuple[int, float]]:
        return [(e.length, e.metrics["eval_loss"]) for e in events if isinstance(e, ValidationReported)]

    assert [length for length, _ in losses(whole)] == [2, 4, 6]
    assert losses(resumed) == losses(whole)[2:]


SEARCH = """
import sys
sys.path.insert(0, {root!r})
import ashwood
from tests.integrations.test_transformers import hf, Tokens, make_trainer

class More(Tokens):  # Workers know this class, although they do not import this script.
    pass

def build(trial):
    size = 16 if trial is None else trial["hidden"]
    config = hf.BertConfig(vocab_size=20, hidden_size=size, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=16, max_position_embeddings=8)
    return hf.BertForSequenceClassification(config)

def hp_space(trial):
    return {{
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        "hidden": 2 * trial.suggest_int("half", 4, 16, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [8, 16]),
    }}

trainer = make_trainer(train_dataset=More(40, 0), num_train_epochs=4, output_dir="out")
trainer.model_init = build
best = ashwood.transformers.hyperparameter_search(trainer, hp_space, n_trials=4, seed=1, workers=1, progress=False)
trials = best.run_summary.trials()
assert trials["length"].max() == 4 and len(trials) == 4
assert trials["best.objective"].min() == best.objective
row = trials[trials["trial"] == int(best.run_id)].iloc[0]
assert best.hyperparameters["hidden"] == 2 * round(row["hparams.half"])
assert best.hyperparameters["learning_rate"] == row["hparams.learning_rate"]
model = hf.BertForSequenceClassification.from_pretrained(best.run_summary.best_checkpoint().directory)
assert model.config.hidden_size == best.hyperparameters["hidden"]
assert trainer.model is not None
"""


@pytest.mark.timeout(600)
def test_hyperparameter_search_runs_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(SEARCH.format(root=str(Path(__file__).parents[2])))
    done = subprocess.run([sys.executable, "search.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_suggestions_become_hyperparameters_and_back() -> None:
    from ashwood.integrations.hp_space import space_of, values_of

    def hp_space(trial: Any) -> dict[str, Any]:
        return {
            "weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1),
            "warmup_ratio": trial.suggest_float("warmup_ratio", 0.0, 0.3, step=0.1),
            "learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True),
            "warmup_steps": trial.suggest_int("warmup_steps", 0, 10) + 1,
            "layers": trial.suggest_int("layers", 2, 6, step=2),
            "width": trial.suggest_int("width", 1, 100, log=True),
            "optim": trial.suggest_categorical("optim", ["adamw_torch", "sgd"]),
        }

    space = space_of(hp_space)
    assert space["weight_decay"] == Double(0.0, 0.1)
    assert space["warmup_ratio"] == Double(0.0, 0.3, step=0.1)
    assert space["learning_rate"] == Double(1e-6, 1e-4, log=True)
    assert space["warmup_steps"] == Int(0, 10)
    assert space["layers"] == Int(2, 6, step=2)
    assert space["width"] == Int(1, 100, log=True)
    lowest = values_of(hp_space, {name: hyperparameter.at(0.0) for name, hyperparameter in space.items()})
    assert lowest == {
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "learning_rate": 1e-6,
        "warmup_steps": 1,
        "layers": 2,
        "width": 1,
        "optim": "adamw_torch",
    }
    assert values_of(hp_space, {name: h.at(1 - 2**-53) for name, h in space.items()})["width"] == 100


def test_default_space_is_that_of_transformers_without_epochs() -> None:
    pytest.importorskip("optuna")
    from ashwood.integrations.hp_space import _default_space, space_of

    def usual(trial: Any) -> dict[str, Any]:
        values: dict[str, Any] = hf.trainer_utils.default_hp_space_optuna(trial)
        del values["num_train_epochs"]
        return values

    expected = space_of(usual)
    del expected["num_train_epochs"]
    assert space_of(_default_space) == expected


def conditional(trial: Any) -> dict[str, Any]:
    optim = trial.suggest_categorical("optim", ["sgd", "adamw_torch"])
    return {"optim": optim, **({"adam_beta1": trial.suggest_float("adam_beta1", 0.8, 0.99)} if optim != "sgd" else {})}


@pytest.mark.parametrize(
    ("hp_space", "error"),
    [
        (conditional, "hp_space suggests adam_beta1 only at some values of other hyperparameters"),
        (lambda trial: {"x": trial.suggest_int("x", 0, trial.suggest_int("y", 1, 9))}, "hp_space suggests x only at"),
        (lambda trial: {"max_steps": trial.suggest_int("max_steps", 1, 5)}, "hp_space sets max_steps, but the search"),
        (lambda trial: {"x": trial.number}, "hp_space uses number, but has only suggest_float"),
    ],
)
def test_space_that_cannot_be_searched_is_refused(hp_space: Any, error: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingCodeError) as raised:
        ashwood.transformers.hyperparameter_search(make_trainer(output_dir=tmp_path), hp_space)
    assert str(raised.value).startswith(error)


def test_trainer_that_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    search, files = ashwood.transformers.hyperparameter_search, {"output_dir": tmp_path}
    with pytest.raises(TrainingCodeError, match="model_init"):
        search(make_trainer(model=build(), **files))
    with pytest.raises(TrainingCodeError, match="direction"):
        search(make_trainer(**files), direction="up")
    with pytest.raises(TrainingCodeError, match="eval_strategy"):
        search(make_trainer(eval_strategy="no", **files))
