"""Peak memory of one solve: in a process of its own, beyond what it took with the model and the data loaded.

`python alone.py PROBLEM LIBRARY OPTIONS` prints the bytes: on a CPU the largest resident size minus the one just
before, on a GPU what PyTorch allocated there (then ARPACK's basis, in the host's memory, is not in it).
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from libraries import SOLVERS
from problems import Problem, moments

from workers.trial import fix_numerics


def peak_bytes(problem: Problem, library: str, options: dict[str, Any]) -> int:
    """What the solve takes at its peak, beyond model and data."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        torch.save(problem, file)
        command = [sys.executable, __file__, str(file), library, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "died")
    return int(done.stdout.split()[-1])


def main(file: str, library: str, options: str) -> None:
    warnings.simplefilter("ignore")
    fix_numerics()
    problem: Problem = torch.load(file, weights_only=False)
    device = str(problem.inputs.device.type)
    SOLVERS[library](next(moments("tiny", None, False, device)))  # what is imported and made once
    before = _reset_peak(device)
    SOLVERS[library](problem, **json.loads(options))
    print(max(0, _peak(device) - before))


def _reset_peak(device: str) -> int:
    """Bytes in use now, from where the peak is counted."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    before = _peak(device)
    try:
        Path("/proc/self/clear_refs").write_text(
            "5", encoding="ascii"
        )  # Linux: the peak is now what is in use
        return _peak(device)
    except OSError:
        return before


def _peak(device: str) -> int:
    """The largest resident size so far. Not Linux's `ru_maxrss`: that begins at the size of the parent process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
