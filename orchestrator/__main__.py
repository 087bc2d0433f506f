"""`python -m orchestrator`: the command where it is not installed, as in a job that brought this package along."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # a cluster's Python is not of our choice
    sys.exit(f"tiny-subspace needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}")

try:
    from orchestrator.cli import main

    main(prog_name="tiny-subspace")
except ModuleNotFoundError as missing:
    sys.stderr.write(
        f"{missing} in {sys.executable}: install tiny-subspace, or what it depends on, for this Python\n"
    )
    sys.exit(2)
