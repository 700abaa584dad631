"""Trial classes in the style of Determined's tutorials, on data of scikit-learn or generated data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from ashwood.integrations.determined import pytorch  # noqa: E402
from ashwood.integrations.determined.errors import InvalidHP  # noqa: E402

StepMode = pytorch.LRScheduler.StepMode


def digits(train: bool) -> Any:
    images, labels = datasets.load_digits(return_X_y=True)
    chosen = np.arange(len(labels)) % 5 != 0
    rows = chosen if train else ~chosen
    x, y = images[rows][:400] / 16, labels[rows][:400]
    return torch.utils.data.TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))


class DigitsTrial(pytorch.PyTorchTrial):
    """MNIST's tutorial, with dropout, a learning rate schedule and clipped gradients."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        self.context = context
        hidden = context.get_hparam("hidden")
        net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.25), nn.Linear(hidden, 10))
        self.model = context.wrap_model(net)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=context.get_hparam("lr"), momentum=0.9)
        self.optimizer = context.wrap_optimizer(optimizer)
        schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.8)
        self.schedule = context.wrap_lr_scheduler(schedule, StepMode.STEP_EVERY_EPOCH)

    def build_training_data_loader(self) -> Any:
        return pytorch.DataLoader(digits(True), batch_size=self.context.get_per_slot_batch_size(), shuffle=True)

    def build_validation_data_loader(self) -> Any:
        return pytorch.DataLoader(digits(False), batch_size=self.context.get_per_slot_batch_size())

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer, clip_grads=lambda p: nn.utils.clip_grad_norm_(p, 1.0))
        return {"loss": loss, "lr": self.schedule.get_last_lr()[0], "epoch": epoch_idx}

    def evaluate_batch(self, batch: Any) -> dict[str, Any]:  # type: ignore[override]
        images, labels = batch
        output = self.model(images)
        return {
            "validation_loss": F.cross_entropy(output, labels),
            "accuracy": (output.argmax(1) == labels).float().mean(),
        }


class GanTrial(pytorch.PyTorchTrial):
    """Two models and two optimizers, random numbers in the training, and random numbers in the validation."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        self.context = context
        size = context.get_hparam("latent")
        self.generator = context.wrap_model(nn.Sequential(nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, 2)))
        self.discriminator = context.wrap_model(nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)))
        self.size = size
        lr = context.get_hparam("lr")
        self.opt_g = context.wrap_optimizer(torch.optim.Adam(self.generator.parameters(), lr=lr))
        self.opt_d = context.wrap_optimizer(torch.optim.Adam(self.discriminator.parameters(), lr=lr))

    def data(self, count: int) -> Any:
        angles = torch.linspace(0, 6.28, count)
        return torch.utils.data.TensorDataset(torch.stack([angles.cos(), angles.sin()], 1))

    def build_training_data_loader(self) -> Any:
        return pytorch.DataLoader(self.data(100), batch_size=16, shuffle=True, drop_last=True)

    def build_validation_data_loader(self) -> Any:
        return pytorch.DataLoader(self.data(32), batch_size=16)

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        (real,) = batch
        valid, fake = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        noise = torch.randn(len(real), self.size)
        self.generator.requires_grad_(True)
        self.discriminator.requires_grad_(False)
        made = self.generator(noise)
        g_loss = F.binary_cross_entropy_with_logits(self.discriminator(made), valid)
        self.context.backward(g_loss)
        self.context.step_optimizer(self.opt_g)
        self.discriminator.requires_grad_(True)
        d_loss = F.binary_cross_entropy_with_logits(self.discriminator(real), valid)
        d_loss = d_loss + F.binary_cross_entropy_with_logits(self.discriminator(made.detach()), fake)
        self.context.backward(d_loss)
        self.context.step_optimizer(self.opt_d)
        return {"loss": d_loss, "g_loss": g_loss, "note": "text", "nothing": None}

    def evaluate_full_dataset(self, data_loader: Any) -> dict[str, Any]:
        made = self.generator(torch.randn(64, self.size))
        near = torch.cat([(made - real.mean(0)).norm(dim=1) for (real,) in data_loader])
        return {"loss": near.mean(), "samples": near.numpy()}


class Counter(pytorch.PyTorchCallback):
    """Counts events, in its state too."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts = dict(state_dict["counts"])


def _counting(event: str) -> Any:
    def count(self: Counter, *args: Any, **kwargs: Any) -> None:
        self.counts[event] = self.counts.get(event, 0) + 1
        EVENTS.append((event, *args))

    return count


EVENTS: list[tuple[Any, ...]] = []
for _event in [name for name in vars(pytorch.PyTorchCallback) if name.startswith("on_")]:
    setattr(Counter, _event, _counting(_event))
Counter.on_training_epoch_start = lambda self, epoch_idx: EVENTS.append(("on_training_epoch_start", epoch_idx))  # type: ignore[method-assign]


class Confusion(pytorch.MetricReducer):
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right = self.total = 0

    def update(self, output: Any, labels: Any) -> None:
        self.right += int((output.argmax(1) == labels).sum())
        self.total += len(labels)

    def per_slot_reduce(self) -> Any:
        return self.right, self.total

    def cross_slot_reduce(self, per_slot_metrics: list[Any]) -> Any:
        rights, totals = zip(*per_slot_metrics, strict=True)
        return {"right": sum(rights) / max(1, sum(totals)), "records": sum(totals)}


class ReducersTrial(DigitsTrial):
    """Custom reducers for training and validation, aggregated gradients, and callbacks."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        super().__init__(context)
        self.confusion = context.wrap_reducer(Confusion())
        self.sizes = context.experimental.wrap_reducer(lambda sizes: float(np.median(sizes)), name="median_size")

    def build_callbacks(self) -> dict[str, Any]:
        return {"counter": Counter()}

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        images, labels = batch
        output = self.model(images)
        loss = F.cross_entropy(output, labels)
        self.confusion.update(output, labels)
        self.sizes.update(len(labels))
        self.context.backward(loss)
        self.context.step_optimizer(self.optimizer)
        return {"loss": loss}

    def evaluate_batch(self, batch: Any, batch_idx: int) -> dict[str, Any]:  # type: ignore[override]
        images, labels = batch
        output = self.model(images)
        self.confusion.update(output, labels)
        self.sizes.update(len(labels))
        return {"validation_loss": F.cross_entropy(output, labels), "most": (output.argmax(1) == labels).sum()}

    def evaluation_reducer(self) -> Any:
        return {"validation_loss": pytorch.Reducer.AVG, "most": pytorch.Reducer.MAX}


class Noisy(torch.utils.data.Dataset):  # type: ignore[misc,name-defined]
    """Augments images with random numbers of all three generators."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        import random

        image, label = self.data[index]
        return image + 0.1 * (torch.randn(64) + random.random() + float(np.random.rand())), label


class LoadersTrial(DigitsTrial):
    """Another data loader for each value of the hyperparameter ``loader``."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        super().__init__(context)
        if context.get_hparam("loader").startswith("torch"):
            context.experimental.disable_dataset_reproducibility_checks()

    def build_training_data_loader(self) -> Any:
        data, kind = Noisy(digits(True)), self.context.get_hparam("loader")
        size = self.context.get_per_slot_batch_size()
        if kind == "torch":
            return torch.utils.data.DataLoader(data, batch_size=size, shuffle=True)
        if kind == "torch-skip":
            # The user's own code skips, as in Determined's documentation.
            sampler: Any = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), size, False)
            sampler = pytorch.samplers.ReproducibleShuffleBatchSampler(sampler, self.context.get_trial_seed() % 2**32)
            sampler = pytorch.samplers.RepeatBatchSampler(sampler)
            sampler = pytorch.samplers.DistributedBatchSampler(sampler, 1, 0)
            sampler = pytorch.samplers.SkipBatchSampler(sampler, self.context.get_initial_batch())
            return torch.utils.data.DataLoader(data, batch_sampler=sampler)
        if kind == "weighted":
            weights = torch.ones(len(data))
            weighted = torch.utils.data.WeightedRandomSampler(weights, len(data))
            return pytorch.DataLoader(data, batch_size=size, sampler=weighted)
        if kind == "generator":
            return pytorch.DataLoader(data, size, shuffle=True, generator=torch.Generator().manual_seed(5))
        if kind == "workers":
            return pytorch.DataLoader(data, size, shuffle=True, num_workers=1)
        assert kind == "plain"
        return pytorch.DataLoader(data, size)


class MethodsTrial(pytorch.PyTorchTrial):
    """A class of Determined 0.12: methods build the model and the optimizer."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        self.context = context

    def build_model(self) -> Any:
        model = nn.Sequential(nn.Linear(64, self.context.get_hparam("hidden")), nn.ReLU(), nn.Linear(16, 10))
        pytorch.reset_parameters(model)
        return model

    def optimizer(self, model: Any) -> Any:
        return torch.optim.SGD(model.parameters(), lr=self.context.get_hparam("lr"), momentum=0.9)

    def create_lr_scheduler(self, optimizer: Any) -> Any:
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return pytorch.LRScheduler(schedule, StepMode.STEP_EVERY_EPOCH)

    build_training_data_loader = DigitsTrial.build_training_data_loader
    build_validation_data_loader = DigitsTrial.build_validation_data_loader

    def train_batch(self, batch: Any, model: Any, epoch_idx: int, batch_idx: int) -> Any:  # type: ignore[override]
        images, labels = batch
        return {"loss": F.cross_entropy(model(images), labels)}

    def evaluate_batch(self, batch: Any, model: Any) -> Any:
        images, labels = batch
        return {"validation_loss": F.cross_entropy(model(images), labels)}


class ScheduledTrial(DigitsTrial):
    """A schedule that counts its steps, in the mode of the hyperparameter ``mode``."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        super().__init__(context)
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda steps: 1.0 + steps)
        self.steps = context.wrap_lr_scheduler(schedule, getattr(StepMode, context.get_hparam("mode")), frequency=2)

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        STEPS.append((batch_idx, self.steps.last_epoch))
        if batch_idx % 10 == 9 and self.context.get_hparam("mode") == "MANUAL_STEP":
            self.steps.step()
        return super().train_batch(batch, epoch_idx, batch_idx)


STEPS: list[tuple[int, int]] = []


class ScaledTrial(DigitsTrial):
    """Mixed precision, by the scaler that the hyperparameter ``scaler`` names."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        kind = context.get_hparam("scaler")
        self.scaler = None
        if kind == "use_amp":
            context.experimental.use_amp()
        else:
            self.scaler = context.wrap_scaler(torch.amp.GradScaler(kind))
        super().__init__(context)

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> dict[str, Any]:
        if self.scaler is None:
            return super().train_batch(batch, epoch_idx, batch_idx)
        images, labels = batch
        with torch.amp.autocast("cpu"):
            loss = F.cross_entropy(self.model(images), labels)
        self.context.backward(self.scaler.scale(loss))
        self.context.step_optimizer(self.optimizer, scaler=self.scaler)
        self.scaler.update()
        return {"loss": loss}


class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc,name-defined]
    def __iter__(self) -> Any:
        for _ in range(200):
            image = torch.randn(64)
            yield image, int(image[0] > 0)


class StreamTrial(DigitsTrial):
    """Training data without a length."""

    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        super().__init__(context)
        context.experimental.disable_dataset_reproducibility_checks()

    def build_training_data_loader(self) -> Any:
        return torch.utils.data.DataLoader(Stream(), batch_size=self.context.get_per_slot_batch_size())


class InvalidTrial(DigitsTrial):
    def __init__(self, context: pytorch.PyTorchTrialContext) -> None:
        if context.get_hparam("hidden") < 16:
            raise InvalidHP("too small")
        super().__init__(context)
