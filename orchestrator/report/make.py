"""`tiny-subspace report`: from a results folder to a folder with a page, whole or not at all."""

from __future__ import annotations

import shutil
import uuid
import warnings
from pathlib import Path

from orchestrator.files import TEMPORARY
from orchestrator.report.contents import contents
from orchestrator.report.figure import Figure, Stored
from orchestrator.report.page import Picture, page
from orchestrator.report.summary import summarise
from orchestrator.store import ResultStore

INDEX = "index.html"
FIGURES = "figures"


class ReportError(RuntimeError):
    """A report that cannot be made; one line."""


def make(path: str, output: Path | None = None) -> Path:
    """Write the report on the results at `path`, a folder or a URI, and say where its page is.

    `output` is a folder; by default `report` within the results, or `report-<name>` here where they lie behind a URI.
    An older report there is replaced; until the new one is complete, the old one stays.

    Raises StoreError where there are no results, ReportError where no trial is finished or the folder is in use for
    something else, OSError where it cannot be written.
    """
    name = ResultStore(path).sweep_name()
    target = output or (Path(f"report-{name}") if "://" in path else Path(path) / "report")
    refuse_foreign(target)
    stored = Stored(path)
    with warnings.catch_warnings(
        action="ignore", category=UserWarning
    ):  # of damaged files, which the page lists
        finished = len(stored.trials)
    if not finished:
        raise ReportError(f"{path}: none of its trials is finished yet")
    shown = [Picture.of(item, name) if isinstance(item, Figure) else item for item in contents(stored)]
    files = {INDEX: page(summarise(stored), shown).encode()}
    for picture in shown:
        if isinstance(picture, Picture):
            files |= {
                f"{FIGURES}/{picture.figure.name}.svg": picture.svg,
                f"{FIGURES}/{picture.figure.name}.png": picture.png,
            }
    put(target, files)
    return target / INDEX


def refuse_foreign(target: Path) -> None:
    """Raise ReportError where `target` holds anything that is not a report, and would be lost."""
    if target.is_dir():
        names = {entry.name for entry in target.iterdir()} - {
            ".DS_Store"
        }  # which looking at it on a Mac leaves
        if not names or (INDEX in names and names <= {INDEX, FIGURES}):
            return
    elif not target.exists():
        return
    raise ReportError(f"{target}: holds something else than a report; give another folder with --output")


def put(target: Path, files: dict[str, bytes]) -> None:
    """A folder with these files at `target`, in the place of what is there. Raises OSError, and leaves that then."""
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}") for _ in range(2))
    try:
        for name, content in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_bytes(content)
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
