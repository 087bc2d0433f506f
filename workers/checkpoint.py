"""A trial's checkpoints: everything it needs to go on as if it had never stopped, to the bit."""

import hashlib
import io
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Protocol

import torch

from workers import find
from workers.observer import Observer
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import TrialSpec
from workers.training import Training

FORMAT = 1
"""Raised when checkpoints of earlier versions cannot be read any more."""

PRICE = 50.0
"""Seconds of work for each second that a checkpoint takes: saving costs less than 2 %."""

AFTER_ROW = 1 / 6
"""A row is worth saving after this share of the period: what was measured cost more than a step of training."""

DIGEST = hashlib.sha256().digest_size


class Checkpoints(Protocol):
    """Where a trial's checkpoints lie, as the context says. `every` is the period in seconds."""

    every: float

    def load(self) -> Iterator[bytes]:
        """What was saved, newest first. Raises OSError where that cannot be read."""

    def save(self, position: int, content: bytes) -> None:
        """Keep this one, whole or not at all, and the one before. Raises OSError."""


@dataclass
class Account:
    """What a trial has told and cost so far, in all its attempts."""

    position: int = 0  # the step that comes next
    rows: list[Row] = field(default_factory=list)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0  # of earlier attempts, as far as they are of use
    seconds_measuring: float = 0.0
    hessian_products: int = 0


class Saver:
    """Saves a trial now and then, by time, and finds what was saved. Notes are for people to read."""

    def __init__(self, checkpoints: Checkpoints | None, spec: TrialSpec, device: str) -> None:
        self._checkpoints = checkpoints
        self._identity = identity(spec, device) if checkpoints else {}
        self._begun = self._last = time.perf_counter()
        self._cost, self._checked, self._saved_at = 0.0, False, -1
        self._complained = False
        self._notes: list[str] = []

    def notes(self) -> list[str]:
        """What there is to say since the last call, for people."""
        said, self._notes = self._notes, []
        return said

    def restore(self, training: Training, observer: Observer) -> tuple[Account, TrialResult | None]:
        """Go back to the newest checkpoint that is whole and of this very trial, if there is one.

        The result is there where the trial had come to its end. Raises OSError where checkpoints cannot be read.
        """
        for content in self._checkpoints.load() if self._checkpoints else ():
            try:
                state = decode(content)
                if state["identity"] != self._identity:
                    self._notes.append(
                        "a checkpoint of another version of torch or of your files is of no use"
                    )
                    continue
                started_at = datetime.fromisoformat(state["account"]["started_at"])
                account = Account(**state["account"] | {"started_at": started_at})
                if state["result"]:
                    return account, _result(state["result"])
                random, memory = state["random"], state["memory"]
                training.restore(state["training"])
                observer.memory = memory
                _restore_random(random)
            except (ValueError, KeyError, TypeError) as error:
                self._notes.append(f"a checkpoint is of no use: {error}")
                continue
            self._saved_at = account.position
            self._notes.append(f"goes on from its checkpoint at step {account.position}")
            return account, None
        return Account(), None

    def due(self, after_row: bool = False) -> bool:
        """Whether enough has been done since the last checkpoint."""
        if self._checkpoints is None:
            return False
        period = self._checkpoints.every * (AFTER_ROW if after_row else 1.0)
        return time.perf_counter() - self._last >= max(period, PRICE * self._cost)

    def save(
        self, training: Training, observer: Observer, account: Account, result: TrialResult | None = None
    ) -> None:
        """Save; with the result no more than what was told. Trouble with that is a note and stops nothing."""
        if self._checkpoints is None or (account.position == self._saved_at and not result):
            return
        live = None if result else training.state()  # waits for what the device still does: no cost of saving
        begun = time.perf_counter()
        state: dict[str, Any] = {
            "identity": self._identity,
            "account": vars(account)
            | {"started_at": account.started_at.isoformat(), "seconds": self.seconds(account)},
            "result": _plain_result(result) if result else None,
        }
        if live:
            state |= {"training": live, "memory": observer.memory, "random": self._random()}
        try:
            content = encode(state)
            if not self._checked:  # once is enough: the next has the same kinds of things in it
                decode(content)
                self._checked = True
            self._checkpoints.save(account.position, content)
            self._saved_at = account.position
        except (OSError, ValueError) as error:
            if not self._complained:
                self._notes.append(
                    f"cannot be saved, and would begin anew if it were interrupted now: {error}"
                )
            self._complained = True
            # a long wait may not come again, and is no reason to save the more seldom
            begun = max(begun, time.perf_counter() - self._checkpoints.every / 5)
        self._last = time.perf_counter()
        self._cost = self._last - begun

    def _random(self) -> dict[str, Any]:
        """The global stream, which dropout draws from, of the CPU and of the trial's GPU."""
        on_gpu = self._identity["device"] != "cpu"
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if on_gpu else None}

    def seconds(self, account: Account) -> float:
        """What the trial has taken so far, without the attempts that came to nothing."""
        return account.seconds + time.perf_counter() - self._begun


def identity(spec: TrialSpec, device: str) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from: the trial, torch, the device, the user's own files."""
    kinds = {"architectures": spec.architecture, "datasets": spec.dataset, "optimizers": spec.optimizer}
    named = [(kind, component.name) for kind, component in kinds.items()]
    named += [("measurements", name) for name in spec.measure]
    return {
        "format": FORMAT,
        "trial_id": spec.trial_id,
        "torch": str(torch.__version__),
        "device": device,
        "own": {name: find.digest(kind, name) for kind, name in named if "." in name},
    }


def encode(state: dict[str, Any]) -> bytes:
    """A digest, then what `torch.save` makes of the state. ValueError for what it cannot take.

    >>> decode(encode({"step": 3}))
    {'step': 3}
    """
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def decode(content: bytes) -> dict[str, Any]:
    """The state of `encode`, on the devices it was saved from. ValueError for one that is damaged or not plain data."""
    digest, content = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("it is damaged")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=_as_saved, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(str(error).strip().partition("\n")[0]) from error
    return state


def _as_saved(storage: Any, device: str) -> Any:
    """To the GPU in use, whatever its number was, or to the CPU."""
    return storage.cuda() if device.startswith("cuda") and torch.cuda.is_available() else storage


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def _plain_result(result: TrialResult) -> dict[str, Any]:
    values = {f.name: getattr(result, f.name) for f in fields(result)}
    dates = {name: value.isoformat() for name, value in values.items() if isinstance(value, datetime)}
    return values | dates | {"status": str(result.status)}


def _result(values: dict[str, Any]) -> TrialResult:
    dates = {
        name: datetime.fromisoformat(values[name]) for name in ("started_at", "finished_at") if values[name]
    }
    return TrialResult(**values | dates | {"status": TrialStatus(values["status"])})
