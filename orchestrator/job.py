"""What a driver can know of the Ray job that it runs in."""

import os
import shlex
import sys

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable for the driver of a submitted job."""

COMMAND = "TINY_SUBSPACE_COMMAND"
"""The environment variable that says the `submit` command that a job comes from."""


def inside() -> bool:
    """Whether this process is the driver of a Ray job: its working directory vanishes with the job."""
    return JOB in os.environ


def command() -> str:
    """The line that runs this again, for people: in a job that of the user, who sits elsewhere."""
    return os.environ.get(COMMAND) or shlex.join(["tiny-subspace", *sys.argv[1:]])
