"""Search with Ray Tune, which ends trials early and continues failed ones from checkpoints."""

import tempfile
from pathlib import Path

import catboost
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

ROUNDS_PER_REPORT = 4


def train(config):
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_valid, y_train, y_valid = train_test_split(x, y, random_state=0)

    model, rounds = None, 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as directory:
            model = catboost.CatBoostClassifier().load_model(str(Path(directory) / "model.cbm"))
        rounds = model.tree_count_
    while rounds < 64:
        # Callbacks of CatBoost cannot save the model, so each report ends a stretch of training.
        stretch = catboost.CatBoostClassifier(
            iterations=ROUNDS_PER_REPORT, verbose=False, allow_writing_files=False, use_best_model=False, **config
        )
        model = stretch.fit(x_train, y_train, eval_set=(x_valid, y_valid), init_model=model)
        rounds += ROUNDS_PER_REPORT
        loss = model.evals_result_["validation"]["Logloss"][-1]
        with tempfile.TemporaryDirectory() as directory:
            model.save_model(str(Path(directory) / "model.cbm"))
            checkpoint = tune.Checkpoint.from_directory(directory)
            tune.report({"loss": loss, "rounds": rounds}, checkpoint=checkpoint)


if __name__ == "__main__":
    space = {"learning_rate": tune.loguniform(0.01, 1), "depth": tune.randint(1, 7)}
    scheduler = ASHAScheduler(time_attr="rounds", metric="loss", mode="min", max_t=64, grace_period=4)
    tuner = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=4),
        run_config=tune.RunConfig(failure_config=tune.FailureConfig(max_failures=2)),
    )
    print(tuner.fit().get_best_result(metric="loss", mode="min").config)
