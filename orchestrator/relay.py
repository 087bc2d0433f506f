"""What `submit` writes to standard error: its own lines and the job's log, as text or as one JSON object a line."""

import json

import click

from orchestrator.json_lines import json_line


class Relay:
    """Own lines, and the log of a job as it comes in pieces. `end` once it has ended."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._rest = ""  # of a line whose end has not come

    def say(self, line: str) -> None:
        """A line of our own; in JSON the event `submit`."""
        click.echo(json_line("submit", line.strip()) if self.as_json else line, err=True)

    def write(self, text: str) -> None:
        """A piece of the log. In JSON a line that is no object becomes the message of one, with the event `log`."""
        if not self.as_json:
            click.echo(text, err=True, nl=False)
            return
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            click.echo(line if is_object(line) else json_line("log", line.strip()), err=True)

    def end(self) -> None:
        """Write what is left of a last line without an end."""
        if self._rest:
            self.write("\n")


def is_object(line: str) -> bool:
    """Whether a line is a JSON object.

    >>> is_object('{"event": "begin"}'), is_object("[1/2] completed"), is_object("2")
    (True, False, False)
    """
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
