"""Training code for Determined AI's Core API.  It runs on Determined and on Ashwood, without a change."""

import logging
import pickle

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import determined as det


def main(core_context, info):
    hparams = info.trial.hparams
    features, labels = load_iris(return_X_y=True)
    x_train, x_valid, y_train, y_valid = train_test_split(
        features, labels, test_size=info.user_data["test_fraction"], random_state=0
    )
    batches_per_epoch = -(-len(x_train) // hparams["global_batch_size"])

    if info.latest_checkpoint is None:
        epochs = 0
        model = MLPClassifier(
            hidden_layer_sizes=hparams["hidden_units"],
            solver="sgd",
            learning_rate_init=hparams["learning_rate"],
            alpha=hparams["l2"],
            batch_size=hparams["global_batch_size"],
            random_state=info.trial.trial_seed,
        )
    else:
        with core_context.checkpoint.restore_path(info.latest_checkpoint) as path:
            model, epochs = pickle.loads((path / "model.pkl").read_bytes())

    for op in core_context.searcher.operations():
        while epochs < op.length:
            model.partial_fit(x_train, y_train, classes=[0, 1, 2])
            epochs += 1
            steps_completed = epochs * batches_per_epoch
            core_context.train.report_training_metrics(steps_completed=steps_completed, metrics={"loss": model.loss_})
            error = 1 - model.score(x_valid, y_valid)
            core_context.train.report_validation_metrics(
                steps_completed=steps_completed, metrics={"validation_error": error}
            )
            op.report_progress(epochs)
            with core_context.checkpoint.store_path({"steps_completed": steps_completed}) as (path, _storage_id):
                (path / "model.pkl").write_bytes(pickle.dumps((model, epochs)))
            if core_context.preempt.should_preempt():
                return
        op.report_completed(error)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format=det.LOG_FORMAT)
    cluster_info = det.get_cluster_info()
    assert cluster_info is not None, "this script runs as a trial of an experiment"
    with det.core.init() as context:
        main(context, cluster_info)
