"""PyTorch: save and restore all that training needs to continue."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import require, seed_everything
from ashwood.trial import Trial

torch = require("torch", "torch")
np = require("numpy", "torch")

FILE = "state.pt"
RANDOM = "ashwood.random"  # key of the random states in that file; it cannot be the name of an argument


@contextmanager
def state(trial: Trial, **objects: Any) -> Iterator[Callable[[Path], None]]:
    """Restore objects and random numbers from the checkpoint, and return the function that saves them.

    Enter it when the objects are built, before the loop::

        torch.manual_seed(trial.seed)  # for the initial weights
        model = build(**trial.hparams)
        optimizer = torch.optim.SGD(model.parameters(), lr=trial.hparams.lr)
        with ashwood.torch.state(trial, model=model, optimizer=optimizer) as save:
            for epoch in trial.epochs():
                fit_one_epoch(model, optimizer)
                trial.report(loss=evaluate(model), checkpoint=save)

    Without a checkpoint, it seeds ``random``, NumPy and PyTorch with the seed of the trial.  If several processes train
    the trial, all restore the objects.  The random numbers of ranks other than 0 depend on the trial's seed, the rank
    and the length of the checkpoint.

    Args:
        trial: the trial.
        **objects: everything that training changes, by name: models, optimizers, schedulers, gradient scalers and other
            objects with ``state_dict`` and ``load_state_dict``, and objects of ``torch.Generator``.  A model in
            DistributedDataParallel or ``torch.compile`` is saved as if it were not wrapped.

    Yields:
        The function for ``trial.report(checkpoint=...)``.  It writes ``state.pt``, which can be read with
        ``torch.load(file, weights_only=True)``.

    Raises:
        TypeError: an object has no state.
        TrainingCodeError: the checkpoint has states of other objects, or a state does not fit its object.
    """
    objects = {name: _unwrapped(name, thing) for name, thing in objects.items()}
    _restore(trial, objects)
    is_checked = False

    def save(directory: Path) -> None:
        nonlocal is_checked
        states = {n: o.get_state() if isinstance(o, torch.Generator) else o.state_dict() for n, o in objects.items()}
        if trial.rank > 0:
            return
        torch.save({**states, RANDOM: random_state()}, directory / FILE)
        if not is_checked:  # An error now is better than one when the trial continues, hours later.
            _load(directory / FILE, objects, mmap=True)
            is_checked = True

    yield save


def random_state() -> dict[str, Any]:
    """Return the states of the global generators of PyTorch, NumPy and ``random``, as tensors and numbers."""
    _, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (torch.from_numpy(keys.astype("int64")), *rest),
        "random": random.getstate(),
    }


def restore_random_state(states: Mapping[str, Any]) -> None:
    """Restore what `random_state` returned.  States of devices that this machine does not have are ignored."""
    torch.set_rng_state(states["torch"])
    for device, cuda in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, device)
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype("uint32"), *rest))
    random.setstate(states["random"])


def seed_all(seed: int) -> None:
    """Seed the global generators of PyTorch, on all devices, of NumPy and of ``random``."""
    seed_everything(seed)
    torch.manual_seed(seed)


def seed_of_rank(trial: Trial, name: str = "") -> int:
    """Return a seed for a generator in this process that differs from those of other ranks, trials and lengths."""
    return int.from_bytes(sha256(f"{trial.seed} {trial.rank} {trial.length} {name}".encode()).digest()[:7])


def _unwrapped(name: str, thing: Any) -> Any:
    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while isinstance(thing, parallel) or (isinstance(thing, torch.nn.Module) and hasattr(thing, "_orig_mod")):
        thing = thing.module if isinstance(thing, parallel) else thing._orig_mod
    stateful = callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))
    if isinstance(thing, type) or not (stateful or isinstance(thing, torch.Generator)):
        raise TypeError(
            f"ashwood.torch.state() got {name}={thing!r}, but needs objects with the methods state_dict and "
            "load_state_dict, or of torch.Generator"
        )
    return thing


def _restore(trial: Trial, objects: Mapping[str, Any]) -> None:
    states = _load(trial.checkpoint / FILE, objects) if trial.checkpoint else {}
    for name, thing in objects.items() if states else ():
        try:
            if not isinstance(thing, torch.Generator):
                thing.load_state_dict(states[name])
            elif trial.rank > 0:
                thing.manual_seed(seed_of_rank(trial, name))
            else:
                thing.set_state(states[name])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise TrainingCodeError(f"{name!r} does not fit its state in {trial.checkpoint}: {error}") from error
    if states and trial.rank == 0:
        restore_random_state(states[RANDOM])
    else:
        seed_all(seed_of_rank(trial) if trial.rank > 0 else trial.seed)


def _load(file: Path, objects: Mapping[str, Any], *, mmap: bool = False) -> Any:
    try:
        states = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise TrainingCodeError(
            f"cannot read {file} with weights_only=True; states may contain tensors, numbers, text, lists, tuples and "
            f"dictionaries: {error}"
        ) from error
    for name in sorted({*objects, RANDOM} ^ states.keys()):
        raise TrainingCodeError(
            f"checkpoint {file.parent} has {'a' if name in states else 'no'} state of {name!r}: it contains "
            f"{', '.join(states)}, but ashwood.torch.state() got {', '.join(objects)}"
        )
    return states
