"""run_sweep: what is left, retries, interrupts. The one loop, and the only writer of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.checkpoints import remove_checkpoints
from orchestrator.compaction import compact_if_useful
from orchestrator.executors import EngineLost, Executor, PlacementError
from orchestrator.interrupt import Interrupt
from orchestrator.ownership import Ownership
from orchestrator.run import Run
from orchestrator.store import ResultStore, StoreError, settled
from orchestrator.sweep import Sweep, Trial
from orchestrator.user_files import note_changes
from orchestrator.watchers import Display, Watcher
from workers.result import TrialStatus

if TYPE_CHECKING:
    from orchestrator.search_endings import Found
    from orchestrator.search_runs import SearchRuns

GRACE = 600.0
"""Seconds that trials have, after Ctrl-C, to finish what they measure and save where they are."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended. `counts` covers all of its trials, those finished earlier too."""

    counts: Mapping[TrialStatus, int]
    interrupted: bool = False
    error: str | None = None  # why it stopped early, other than by an interrupt
    found: Sequence[Found] = ()  # by its searches

    @property
    def exit_code(self) -> int:
        """130 interrupted; 1 some trial failed, or results could not be written; else 0."""
        if self.interrupted:
            return 130
        return 1 if self.error or self.counts.get(TrialStatus.FAILED) else 0


def run_sweep(
    sweep: Sweep,
    *,
    store: ResultStore,
    executor: Executor,
    mirror: Watcher | None = None,
    progress: Display | None = None,
    only: Collection[str] | None = None,
    command: str | None = None,
    grace: float = GRACE,
    pace: float = 1.0,
) -> Outcome:
    """Run what is not finished of a sweep, or of its trials in `only`, and commit each trial as it ends.

    Failed trials are run again; every other finished one is left alone. `command` is the line that resumes, `pace` a
    factor on all pauses. The caller closes the executor and the mirror. Nothing is started where PlacementError,
    StoreError (OwnedError where another driver is at work) or, for a trial_id in `only` that the sweep has not,
    ValueError is raised.
    """
    store.check(sweep)
    earlier = store.finished()
    admit(executor, sweep, remaining(sweep, earlier, only))
    say = progress.note if progress else lambda _: None
    with Ownership(store, str(sweep.path), waiting=say) as ownership:
        for line in store.begin(sweep):
            say(line)
        earlier = store.finished()  # again: another driver may have ended in between
        for line in note_changes(store, sweep, len(settled(earlier))):
            say(line)
        searches = searches_of(sweep, store, earlier)
        if searches:
            sweep = replace(sweep, trials=searches.trials)
        left = remaining(sweep, earlier, only)
        for watcher in (mirror, progress):
            if watcher:
                watcher.begin(sweep, left)
        run = Run(
            sweep,
            () if searches else left,
            store,
            executor,
            mirror,
            progress,
            supply=searches,
            stored=set(earlier) - settled(earlier),
            confirm=ownership.confirm,
            pace=pace,
        )
        clear(store, settled(earlier))
        if settled(earlier):
            run.alike.ended()
        try:
            interrupted, error = go_on(run, ownership, grace)
        finally:
            run.close()
        clear(store, settled(run.finished))  # what an attempt thought dead has saved since its trial ended
        if not (interrupted or error):
            tidy(store, say)
    again = f"To resume: {command or f'tiny-subspace run {sweep.path}'}"
    if error:
        run.note(f"{error}. {again}")
    if interrupted:
        run.note(
            f"interrupted; finished trials are kept, and those that ran go on from their checkpoints. {again}"
        )
    statuses, trials = earlier | run.finished, searches.trials if searches else sweep.trials
    counts = Counter(statuses.get(trial.spec.trial_id, TrialStatus.PENDING) for trial in trials)
    if searches and searches.unasked:
        counts[TrialStatus.PENDING] += searches.unasked
    return Outcome(counts, interrupted, error, searches.found() if searches else ())


def admit(executor: Executor, sweep: Sweep, left: Sequence[Trial]) -> None:
    """Raise PlacementError, with how many they are, where trials could never be placed."""
    wanted = Counter(trial.resources for trial in left)
    for search in sweep.searches:
        wanted[search.resources] += search.method.trials
    for resources, count in wanted.items():
        try:
            executor.admit(resources)
        except PlacementError as error:
            many = f"{count} of {wanted.total()} trials" if len(wanted) > 1 else "each trial"
            raise PlacementError(f"{sweep.path}: resources: {many}: {error}") from None


def searches_of(sweep: Sweep, store: ResultStore, finished: Mapping[str, TrialStatus]) -> SearchRuns | None:
    """The searches of a sweep, where it has any. StoreError where what they asked before cannot be read."""
    if not sweep.searches:
        return None
    from orchestrator.search_runs import SearchRuns  # with it optuna, which takes half a second

    return SearchRuns(sweep, store, finished)


def go_on(run: Run, ownership: Ownership, grace: float) -> tuple[bool, str | None]:
    """The loop, until nothing is left or something stops it: whether it was interrupted, and what went wrong."""
    interrupt = Interrupt()
    try:
        with interrupt:
            while run.unfinished and not interrupt.requested and not run.hopeless:
                ownership.confirm()
                run.hand_out()
                if run.commit_ended():  # after that, so that no place stands empty while results are written
                    run.hand_out()  # what a search asks for depends on them
                ownership.running(run.running)
                run.take_events()
            if run.unfinished:
                run.wind_up(grace)
                return interrupt.requested, run.hopeless
    except KeyboardInterrupt:  # the second Ctrl-C
        return True, None
    except StoreError as failure:
        return interrupt.requested, f"{failure}; stopped: {_lost(run)}what was committed before is safe"
    except EngineLost as failure:
        with suppress(StoreError):
            run.flush()
        rest = f"{_lost(run)}what was committed is safe, and running trials go on from their checkpoints"
        return interrupt.requested, f"{failure}; {rest}"
    return False, run.hopeless


def _lost(run: Run) -> str:
    return f"{run.unwritten} finished trials could not be written and run again; " if run.unwritten else ""


def clear(store: ResultStore, trial_ids: set[str]) -> None:
    """Remove checkpoints of finished trials; what cannot be removed now is removed by the next run."""
    with suppress(OSError):
        remove_checkpoints(store.folder, trial_ids)


def tidy(store: ResultStore, say: Callable[[str], object]) -> None:
    """Merge the files of a large sweep; what goes wrong with that is no failure of a trial."""
    try:
        done = compact_if_useful(store)
    except StoreError as error:
        say(f"not compacted: {error}; `tiny-subspace compact` does so at any time")
        return
    if done:
        say(str(done))


def remaining(
    sweep: Sweep, finished: Mapping[str, TrialStatus], only: Collection[str] | None = None
) -> list[Trial]:
    """The trials to run, in the sweep's order. ValueError where `only` names one that the sweep has not."""
    chosen = {t.spec.trial_id for t in sweep.trials} if only is None else set(only)
    unknown = sorted(chosen - {t.spec.trial_id for t in sweep.trials})
    if unknown:
        raise ValueError(f"only: {unknown[0]!r}: the sweep {sweep.name} has no such trial")
    due = chosen - settled(finished)
    return [trial for trial in sweep.trials if trial.spec.trial_id in due]
