"""The services of docker/compose.yaml as processes on this machine, by their own command lines.

    with Stack(folder, variables) as stack:                  # everything is healthy
        stack.execute("head", "tiny-subspace", "doctor")     # docker compose exec head tiny-subspace doctor

As by Compose, a service starts when those that it depends on are healthy or have ended well, by their own health
checks, and has the environment of the image and of the service and nothing of ours. What a container has for itself
is put in its place, here and nowhere else:

- `NAME:PORT` of a service becomes its process' address and a free port; so do the container's own `127.0.0.1:PORT`,
  `localhost:PORT` and options `--…port=PORT`. `0.0.0.0` becomes 127.0.0.1: nothing is offered to the network.
- Files and volumes lie in `folder`: /run/secrets/NAME, and what is mounted, such as /data. Commands run in the
  checkout, which has what the image's folder has.
- Ray's nodes are given, by options and RAY_TMPDIR, what sets containers apart: an address of their own on the
  loopback network, a folder for temporary files, and ports of the agent and of Ray's client.
- PATH leads to the programs of this Python and of PostgreSQL, and PYTHONPATH to the package under test.
- Images of others: `postgres` is PostgreSQL of the same first number, started as its image starts it; PGHOST and PGPORT
  say where it is. `s3` is moto's server, which has another page for its health.
- A health check is made every half a second, not every 10 or 15. What ends before its time is not started again.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import postgresql
from cluster import free_ports
from composed import FOLDER, Service, image, read, services
from processes import Command, wait_until

FILE = "compose.yaml"
SECONDS = 120
"""The longest that a service may take to be healthy, as mlflow's `start_period` has it."""

LOOPBACK = "127.0.0.1"
PORT_OPTION = re.compile(r"(--[a-z-]*port=)(\d+)")
MOTO_HEALTH = ["python", "docker/healthy.py", f"http://{LOOPBACK}:7070/moto-api/"]


@dataclass
class Container:
    """One process of a service: its place on the network, its own files, and what it runs once it has started."""

    service: Service
    folder: Path
    host: str = LOOPBACK
    ports: dict[int, int] = field(default_factory=dict)
    command: Command | None = None

    def port(self, number: int) -> int:
        """The free port that stands for one of the container's own."""
        if number not in self.ports:
            (self.ports[number],) = free_ports(1)
        return self.ports[number]


class Stack:
    """Every service that needs no profile, from when it is entered. What it leaves behind lies in `folder`.

    Ray's sockets lie there: a short path. Raises RuntimeError where a service ends before its time, and TimeoutError
    where one does not get healthy.
    """

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._folder, self._variables = folder, variables
        folder.chmod(0o711)  # PostgreSQL's user passes through
        self._image, self._image_health = image(variables)
        self._containers: dict[str, list[Container]] = {}
        for name, service in services(FILE, variables=variables).items():
            if "profiles" not in service.rest:
                count = int(service.rest.get("deploy", {}).get("replicas", 1))
                self._containers[name] = [self._container(service, f"{name}-{i + 1}") for i in range(count)]
        hosts = "|".join([*self._containers, re.escape(LOOPBACK), "localhost"])
        self._address = re.compile(rf"(?<![\w.])({hosts}):(\d+)\b")
        self._programs = postgresql.programs(folder)
        self._well: set[str] = set()
        self._write_secrets()

    def __enter__(self) -> Self:
        try:
            for name in sorted(self._containers, key=lambda name: len(self._needs(name))):
                self._start(name)
            for name in self._containers:
                self._wait(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(self._containers):
            for container in self._containers[name]:
                if (
                    container.command and name == "postgres"
                ):  # its processes are a session each, and end with it
                    container.command.end(signal.SIGINT)
                elif container.command:
                    container.command.kill()

    def execute(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """What a command says in a service's container, as by `docker compose exec`."""
        return self._run(self._containers[name][0], words)

    def published(self, text: str) -> str:
        """A text with the addresses that compose.yaml publishes on 127.0.0.1 as they are here."""
        for containers in self._containers.values():
            for port in containers[0].service.rest.get("ports", ()):
                outside, _, inside = port.rpartition(":")
                text = text.replace(outside, f"{LOOPBACK}:{containers[0].port(int(inside))}")
        return text

    def secret(self, name: str) -> Path:
        """The file of a secret."""
        return self._folder / "secrets" / name

    def output(self, name: str) -> str:
        """What a service has printed."""
        return "".join(found.command.output() for found in self._containers[name] if found.command)

    def _container(self, service: Service, name: str) -> Container:
        folder = self._folder / name
        folder.mkdir()
        own = f"127.0.1.{sum(map(len, self._containers.values())) + int(name.rpartition('-')[2])}"
        return Container(service, folder, own if service.command[:1] == ("ray",) else LOOPBACK)

    def _write_secrets(self) -> None:
        (self._folder / "secrets").mkdir(mode=0o700)
        for name, source in read(FILE)["secrets"].items():
            self.secret(name).write_text(self._variables[source["environment"]], encoding="utf-8")

    def _needs(self, name: str) -> dict[str, dict[str, str]]:
        needs: dict[str, dict[str, str]] = self._containers[name][0].service.rest.get("depends_on", {})
        return needs

    def _start(self, name: str) -> None:
        """Start a service after those that it needs."""
        if self._containers[name][0].command:
            return
        for other in self._needs(name):
            self._start(other)
        for other in self._needs(name):
            self._wait(other)
        for container in self._containers[name]:
            program, *words = self._words(container)
            container.command = Command(
                container.folder / "log",
                *words,
                program=program,
                environment=self._environment(container),
                folder=FOLDER.parent,
                user=postgresql.user() if name == "postgres" else None,
            )

    def _wait(self, name: str) -> None:
        """Return when a service is as others need it: healthy, or at its end where it has no health."""
        try:
            for container in self._containers[name] if name not in self._well else ():
                wait_until(partial(self._is_well, container), SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{name} does not get healthy:\n{self.output(name)}") from error
        self._well.add(name)

    def _is_well(self, container: Container) -> bool:
        assert container.command is not None
        ends = container.service.rest.get("healthcheck", {}).get("disable", False)
        code = container.command.exit_code(wait=0.5)
        if code is None:
            return not ends and self._run(container, self._health(container.service)).returncode == 0
        if ends and code == 0:
            return True
        raise RuntimeError(f"{container.service.name} has ended with {code}:\n{container.command.output()}")

    def _health(self, service: Service) -> list[str]:
        check = service.rest.get("healthcheck")
        return MOTO_HEALTH if service.name == "s3" else check["test"][1:] if check else self._image_health

    def _run(self, container: Container, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._put(container, word) for word in words],
            env=self._environment(container),
            cwd=FOLDER.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def _words(self, container: Container) -> list[str]:
        """The command line."""
        folder, name = container.folder, container.service.name
        if name == "s3":
            return ["python", "-m", "moto.server", f"--host={LOOPBACK}", f"--port={container.port(7070)}"]
        if name == "postgres":
            made = postgresql.make(folder, self._environment(container))
            return ["postgres", "-D", str(made), "-h", LOOPBACK, "-k", str(folder)]
        words = [self._put(container, word) for word in container.service.command]
        if words[0] == "ray":
            words += [f"--node-ip-address={container.host}", f"--temp-dir={folder / 'ray'}"]
            words += [f"--dashboard-agent-listen-port={container.port(52365)}"]
        return [*words, f"--ray-client-server-port={container.port(10001)}"] if "--head" in words else words

    def _environment(self, container: Container) -> dict[str, str]:
        service, folder = container.service, str(container.folder)
        path = [str(Path(sys.executable).parent), str(self._programs), os.environ.get("PATH", os.defpath)]
        given = {"PATH": os.pathsep.join(path), "PYTHONPATH": str(FOLDER.parent), "HOME": folder}
        if service.name == "postgres":
            given |= {"PGHOST": folder, "PGPORT": str(container.port(5432))}
        if service.command[:1] == ("ray",):
            given |= {"RAY_TMPDIR": folder}
        of_image = self._image if service.rest["image"].startswith("tiny-subspace:") else {}
        own = of_image | service.environment
        return {name: self._put(container, value) for name, value in own.items()} | given

    def _put(self, container: Container, text: str) -> str:
        """A word of a command, or a variable's value, as it is here."""

        def address(found: re.Match[str]) -> str:
            name, number = found[1], int(found[2])
            if name not in self._containers:  # localhost: the container itself
                return f"{name}:{container.port(number)}"
            return f"{self._containers[name][0].host}:{self._containers[name][0].port(number)}"

        if option := PORT_OPTION.fullmatch(text):
            return f"{option[1]}{container.port(int(option[2]))}"
        for volume in container.service.rest.get("volumes", ()):
            name, mounted = volume.split(":")[:2]
            if text == mounted:
                return str(self._folder / name)
        text = self._address.sub(address, text).replace("0.0.0.0", LOOPBACK)
        return text.replace("/run/secrets", str(self._folder / "secrets"))
