"""Searches with Ray Tune's ASHA, with checkpoints; the best model is trained again."""

import pickle
import tempfile
from pathlib import Path

from ray import tune
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
splits = list(StratifiedKFold(5).split(X_train, y_train))


def objective(config):
    models, start = [MLPClassifier(random_state=0, **config) for _ in splits], 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            models, start = pickle.loads(Path(directory, "models.pkl").read_bytes())
    for epoch in range(start, 16):
        score = 0.0
        for model, (train, valid) in zip(models, splits, strict=True):
            model.partial_fit(X_train[train], y_train[train], classes=range(10))
            score += model.score(X_train[valid], y_train[valid]) / len(splits)
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "models.pkl").write_bytes(pickle.dumps((models, epoch + 1)))
            tune.report({"score": score}, checkpoint=tune.Checkpoint.from_directory(directory))


tuner = tune.Tuner(
    objective,
    param_space={"learning_rate_init": tune.loguniform(1e-4, 1e-1), "alpha": tune.loguniform(1e-6, 1)},
    tune_config=tune.TuneConfig(
        metric="score", mode="max", num_samples=4, scheduler=tune.schedulers.ASHAScheduler(max_t=16, grace_period=1)
    ),
)
best = tuner.fit().get_best_result()
model = MLPClassifier(random_state=0, max_iter=16, **best.config)
model.fit(X_train, y_train)
print(model.score(X_test, y_test))
