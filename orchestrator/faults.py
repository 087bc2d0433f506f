"""What can go wrong with a trial, by name, and what is done about it."""

import errno
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """A kind of failure; the column `fault` of `trials`. A divergence is none: it is a result."""

    SPEC = "spec"  # what the sweep file asks for is impossible
    DATA = "data"  # a data set is absent or damaged
    CODE = "code"  # anything else that Python raises: a bug in an architecture, say
    DEVICE_MEMORY = "device_memory"  # a GPU is full
    HOST_MEMORY = "host_memory"  # a machine is full
    DEVICE = "device"  # a GPU does not work as it should
    CRASH = "crash"  # the process died
    NODE = "node"  # the machine died, or does not answer
    STORAGE = "storage"  # a disk or an object store does not answer
    CANCELLED = "cancelled"  # stopped by the driver


@dataclass(frozen=True)
class Policy:
    """What happens after a fault. A retried trial goes on from its checkpoint, in another process."""

    words: str  # for people
    retried: bool = True
    counted: bool = True  # against the sweep's `retries`
    first_pause: float = 1.0  # seconds; each pause is twice the one before
    more_gpu: bool = False  # the next attempt has twice the share of a GPU, up to a whole one
    fewer_trials: bool = False  # from now on one trial fewer runs at a time


POLICIES = {
    Fault.SPEC: Policy("impossible as it is written", retried=False),
    Fault.DATA: Policy("its data cannot be used", retried=False),
    Fault.CODE: Policy("its code raised an error", retried=False),
    Fault.DEVICE_MEMORY: Policy("out of GPU memory", more_gpu=True),
    Fault.HOST_MEMORY: Policy("out of memory", first_pause=5.0, fewer_trials=True),
    Fault.DEVICE: Policy("a fault of its GPU"),
    Fault.CRASH: Policy("its process died"),
    Fault.NODE: Policy("its machine was lost", counted=False),
    Fault.STORAGE: Policy("storage did not answer", counted=False, first_pause=5.0),
    Fault.CANCELLED: Policy("cancelled", retried=False),
}

MOST_LOSSES = 20
"""Faults that are not counted, of one trial: a trial that takes its machine down each time must end too."""

BY_CLASS = {
    "SpecError": Fault.SPEC,
    "DataError": Fault.DATA,
    "OutOfMemoryError": Fault.DEVICE_MEMORY,  # torch's
    "MemoryError": Fault.HOST_MEMORY,
    "AcceleratorError": Fault.DEVICE,
    "StorageError": Fault.STORAGE,
}
"""By the name of an exception's class or of one it derives from, so that torch need not be imported."""

PASSING = {
    errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH,
}  # fmt: skip
"""Errors of the operating system that storage gives while it is away."""


def fault_of(error: BaseException) -> Fault:
    """The kind of an exception that a trial raised.

    >>> fault_of(MemoryError()), fault_of(RuntimeError("CUDA error: launch failure")), fault_of(ValueError())
    (<Fault.HOST_MEMORY: 'host_memory'>, <Fault.DEVICE: 'device'>, <Fault.CODE: 'code'>)
    """
    if isinstance(error, RuntimeError) and str(error).startswith(("CUDA", "cuDNN", "cuBLAS")):
        full = "out of memory" in str(error) or "_ALLOC_FAILED" in str(error)
        return Fault.DEVICE_MEMORY if full else Fault.DEVICE
    for ancestor in type(error).__mro__:
        if ancestor.__name__ in BY_CLASS:
            return BY_CLASS[ancestor.__name__]
    if isinstance(error, OSError) and (error.errno in PASSING or isinstance(error, ConnectionError)):
        return Fault.STORAGE
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # torch on a CPU
        return Fault.HOST_MEMORY
    return Fault.CODE
