"""Which versions of what are at work here."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "ray", "mlflow", "pyarrow", "pandas")
COMMIT_VARIABLE = "TINY_SUBSPACE_COMMIT"
"""Environment variable that says the commit where code runs outside its checkout, as in an image."""

VERSION_VARIABLE = "TINY_SUBSPACE_VERSION"
"""Environment variable that says the whole code version where code has travelled, as in a Ray job."""


def package_version(name: str = "tiny-subspace") -> str:
    """The version of an installed distribution, or `unknown`. Imports nothing.

    >>> package_version("no-such-distribution")
    'unknown'
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def versions() -> dict[str, str]:
    """Name to version of Python, of this package and of the libraries whose versions matter."""
    libraries = {name: package_version(name) for name in LIBRARIES}
    return {"tiny-subspace": code_version(), "python": platform.python_version()} | libraries


@cache
def code_version() -> str:
    """The package's version, with its git commit when it runs from a checkout: `0.1.0+1a2b3c4d5e6f`.

    `.dirty` follows when tracked files differ from the commit. A package installed without its checkout has
    its version alone, unless TINY_SUBSPACE_COMMIT says the commit. Code that was shipped with a job, whatever is
    installed there, has the version that it had where it came from: TINY_SUBSPACE_VERSION.
    """
    if shipped := os.environ.get(VERSION_VARIABLE):
        return shipped
    commit = os.environ.get(COMMIT_VARIABLE) or checkout_commit()
    return f"{package_version()}+{commit}" if commit else package_version()


def checkout_commit() -> str | None:
    """The commit (12 digits) of the checkout this file lies in, `.dirty` when edited; None elsewhere."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # not a folder further up: that would be somebody else's repository
        return None
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    return f"{commit}.dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def in_words(found: dict[str, str]) -> str:
    """Versions in one line, as the doctor says them.

    >>> in_words({"python": "3.11.9", "ray": "2.60.0"})
    'python 3.11.9  ray 2.60.0'
    """
    return "  ".join(f"{name} {version}" for name, version in found.items())
