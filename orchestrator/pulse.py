"""Whether a server answers as it should: every call succeeds, and soon."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

PROMPT = 2.0
"""Seconds within which a healthy server answers."""

Client = TypeVar("Client")


class Pulse:
    """The health of a server as its client sees it, to be read from any thread."""

    def __init__(self, prompt: float = PROMPT) -> None:
        self._prompt = prompt
        self._began: float | None = None  # the call under way
        self._bad = False  # the last one that ended

    @property
    def troubled(self) -> bool:
        """Whether the last call failed or took longer than `prompt` seconds, or one has by now."""
        began = self._began
        return self._bad or (began is not None and time.monotonic() - began > self._prompt)

    def of(self, client: Client) -> Client:
        """`client`, with each of its calls watched."""
        return cast(Client, _Watched(client, self))

    @contextmanager
    def call(self) -> Iterator[None]:
        self._began = began = time.monotonic()
        try:
            yield
            self._bad = time.monotonic() - began > self._prompt
        except BaseException:
            self._bad = True
            raise
        finally:
            self._began = None


class _Watched:
    def __init__(self, client: object, pulse: Pulse) -> None:
        self._client, self._pulse = client, pulse

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            with self._pulse.call():
                return method(*arguments, **options)

        return watched
