"""The searches of a sweep under way: which trial comes next, what their samplers are told, when to prune."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.alike import kind_of
from orchestrator.search import Study
from orchestrator.search_endings import Ending, Found, belongs, endings, found
from orchestrator.search_record import Asked, Record
from orchestrator.store import ResultStore, settled
from orchestrator.sweep import Resources, Sweep, Trial
from orchestrator.sweep_search import Search
from workers.result import Row, TrialStatus

REPEATS = 10
"""Answers in a row that a sampler may give again; after so many the next trial is drawn at random."""

TRIES = 1_000
"""Random draws, all of them asked before, after which a search looks through its space, or has nothing new to try."""


class SearchRun:
    """One search. Trials are different ones; an answer that comes again is told the result of its trial."""

    def __init__(self, search: Search, store: ResultStore, ended: Mapping[str, Ending]) -> None:
        self.search, self._record = search, Record(store, search)
        self._study = Study(search.method, search.key, search.longest)
        self._ended = {
            key: ending for key, ending in ended.items() if ending.status is not TrialStatus.FAILED
        }
        self._numbers: dict[str, list[int]] = {}  # of each trial; the sampler has been told of all or of none
        self._due: deque[str] = deque()
        self._repeats = 0
        self.exhausted = False  # nothing new to try
        self._running: set[str] = set()
        for asked in self._record.asked:
            if belongs(search, asked):
                self._study.add(asked, self._ended.get(asked.trial_id))
                self._take(asked)

    def __len__(self) -> int:
        """How many different trials were asked for."""
        return len(self._numbers)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def more(self) -> bool:
        return bool(self._due) or (not self.exhausted and len(self) < self.search.method.trials)

    @property
    def trials(self) -> Iterator[Trial]:
        """Those asked for so far."""
        return (self._trial(trial_id) for trial_id in self._numbers)

    @property
    def left(self) -> list[Trial]:
        """Those asked for in an earlier run that did not end."""
        return [self._trial(trial_id) for trial_id in self._due]

    def next(self) -> Trial | None:
        """The next trial to run; it is on record. Raises StoreError where that cannot be written."""
        while not self._due and self.more:
            self._ask()
        self._record.save()
        if not self._due:
            return None
        trial_id = self._due.popleft()
        self._running.add(trial_id)
        return self._trial(trial_id)

    def row(self, trial_id: str, row: Row) -> bool:
        """Whether the trial, which is of this search, is to be pruned."""
        value = row.get(self.search.method.metric)
        if value is None or not self._study.prunes:
            return False
        return self._study.report(self._numbers[trial_id][0], int(row["step"]), float(value))

    def end(self, trial_id: str, ending: Ending) -> None:
        """A trial of this search has ended."""
        self._running.discard(trial_id)
        self._ended[trial_id] = ending
        for number in self._numbers[trial_id]:
            self._study.tell(number, ending)
            self._note(number)

    def found(self) -> Found:
        """How far it has come."""
        return found(self.search, self._record.asked, self._ended)

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._numbers

    def _ask(self) -> None:
        number, new = len(self._record.asked), lambda point: self.search.spec(point).trial_id not in self
        if self._repeats < REPEATS:
            parameters = self._study.ask(number, new)
        else:
            parameters = self._study.ask_at_random(number, new, TRIES)
        if parameters is None:
            self.exhausted = True
            return
        asked = Asked(number, self.search.spec(parameters).trial_id, parameters)
        self._record.add(asked)
        self._note(number)
        ending = self._ended.get(asked.trial_id)
        self._take(asked)
        if ending:
            self._study.tell(number, ending)

    def _take(self, asked: Asked) -> None:
        again = asked.trial_id in self._numbers
        self._numbers.setdefault(asked.trial_id, []).append(asked.number)
        self._repeats = self._repeats + 1 if again else 0
        if not again and asked.trial_id not in self._ended:
            self._due.append(asked.trial_id)

    def _note(self, number: int) -> None:
        notes = self._study.notes(number)
        if notes != self._record.asked[number].notes:
            self._record.asked[number].notes = notes
            self._record.changed(number)

    def _trial(self, trial_id: str) -> Trial:
        asked = self._record.asked[self._numbers[trial_id][0]]
        return Trial(self.search.spec(asked.parameters), self.search.resources)


class SearchRuns:
    """All searches of a sweep. The next trial is of the search that has the fewest at work."""

    def __init__(self, sweep: Sweep, store: ResultStore, statuses: Mapping[str, TrialStatus]) -> None:
        """Raises StoreError where what was asked before, or its results, cannot be read."""
        self._metric = sweep.searches[0].method.metric
        ended = endings(store, self._metric, {key: statuses[key] for key in settled(statuses)})
        self._runs = [SearchRun(search, store, ended) for search in sweep.searches]
        self.kinds = {kind_of(spec) for spec in sweep.examples}

    @property
    def more(self) -> bool:
        return any(run.more for run in self._runs)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those asked for so far."""
        return tuple(trial for run in self._runs for trial in run.trials)

    @property
    def left(self) -> list[Trial]:
        """Those asked for in an earlier run that did not end."""
        return [trial for run in self._runs for trial in run.left]

    @property
    def unasked(self) -> int:
        """Trials that are to be asked for still."""
        return sum(max(0, run.search.method.trials - len(run)) for run in self._runs if not run.exhausted)

    def next(self, has_room: Callable[[Resources], bool]) -> Trial | None:
        for run in sorted((run for run in self._runs if run.more), key=lambda run: run.running):
            if has_room(run.search.resources) and (trial := run.next()):
                return trial
        return None

    def row(self, trial_id: str, row: Row) -> bool:
        return any(run.row(trial_id, row) for run in self._runs if trial_id in run)

    def ended(self, trial_id: str, status: TrialStatus, rows: Iterable[Row]) -> None:
        ending = Ending.of(status, rows, self._metric)
        for run in self._runs:
            if trial_id in run:
                run.end(trial_id, ending)

    def found(self) -> list[Found]:
        """How far each has come."""
        return [run.found() for run in self._runs]
