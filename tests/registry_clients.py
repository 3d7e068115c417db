"""The clients of registries, each as its users run it: the same few words for all of them.

    with dockerd(namespace, trust) as client:
        assert client.login(hub.address, "captain", "secret")
        assert client.pull(f"{hub.address}/team/app:1")

What an authority of their own takes lies in `trust`, a folder for each registry as docker has them:
`trust/HOST:PORT/{ca.crt,client.cert,client.key}`. `Done` is false if the client has failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import docker

from tests.containerd import Ctr, containerd
from tests.daemon import Daemon, running
from tests.session import scratch
from tests.wire import within


@dataclass
class Done:
    """What a program said, and whether it has done what it was told."""

    ok: bool
    said: str

    def __bool__(self) -> bool:
        return self.ok


class Client(ABC):
    """Holds images by their names, and moves them to and from registries."""

    @abstractmethod
    def login(self, address: str, user: str, password: str) -> Done: ...

    @abstractmethod
    def logout(self, address: str) -> Done: ...

    @abstractmethod
    def pull(self, name: str) -> Done: ...

    @abstractmethod
    def push(self, name: str) -> Done: ...

    @abstractmethod
    def tag(self, name: str, new: str) -> Done: ...

    @abstractmethod
    def remove_all(self) -> Done: ...


@dataclass
class Program(Client):
    """A program that takes the same words as docker."""

    words: Sequence[str | Path]
    namespace: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def run(self, *words: str | Path, stdin: str = "") -> Done:
        with within(self.namespace):
            done = subprocess.run(
                [*map(str, self.words), *map(str, words)],
                env=self.environment,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        return Done(done.returncode == 0, done.stdout + done.stderr)

    def known(self, address: str) -> list[str | Path]:
        """Return the flags with which the program trusts a registry."""
        return []

    def login(self, address: str, user: str, password: str) -> Done:
        login = ["login", *self.known(address), "-u", user, "--password-stdin", address]
        return self.run(*login, stdin=password)

    def logout(self, address: str) -> Done:
        return self.run("logout", address)

    def pull(self, name: str) -> Done:
        return self.run("pull", *self.known(name.partition("/")[0]), name)

    def push(self, name: str) -> Done:
        return self.run("push", *self.known(name.partition("/")[0]), name)

    def tag(self, name: str, new: str) -> Done:
        return self.run("tag", name, new)

    def remove_all(self) -> Done:
        return self.run("image", "prune", "-af")


class Containers(Program):
    """podman or buildah."""

    trust: Path = Path()

    def known(self, address: str) -> list[str | Path]:
        folder = self.trust / address
        return ["--cert-dir", folder] if folder.exists() else ["--tls-verify=false"]

    def remove_all(self) -> Done:
        return self.run("rmi", "-af")


@dataclass
class Skopeo(Program):
    """skopeo keeps nothing: what it has is in folders."""

    trust: Path = Path()
    folder: Path = Path()
    held: dict[str, Path] = field(default_factory=dict)

    def known(self, address: str, side: str = "") -> list[str | Path]:
        folder = self.trust / address
        if folder.exists():
            return [f"--{side}cert-dir", folder]
        return [f"--{side}tls-verify=false"]

    def pull(self, name: str) -> Done:
        place = self.folder / f"{len(list(self.folder.iterdir()))}"
        address = name.partition("/")[0]
        whole = ["copy", "--all", *self.known(address, "src-"), f"docker://{name}", f"dir:{place}"]
        done = self.run(*whole)
        if done:
            self.held[name] = place
        return done

    def push(self, name: str) -> Done:
        address = name.partition("/")[0]
        known = self.known(address, "dest-")
        return self.run("copy", "--all", *known, f"dir:{self.held[name]}", f"docker://{name}")

    def tag(self, name: str, new: str) -> Done:
        self.held[new] = self.held[name]
        return Done(True, "")

    def remove_all(self) -> Done:
        self.held.clear()
        return Done(True, "")


@dataclass
class Containerd(Client):
    """`ctr` takes the login with each command, and what it trusts from a folder of hosts."""

    ctr: Ctr
    hosts: Path
    logins: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str | Path) -> Done:
        done = self.ctr(*words, check=False)
        return Done(done.returncode == 0, done.stdout + done.stderr)

    def known(self, name: str) -> list[str | Path]:
        address = name.partition("/")[0]
        login = ["--user", self.logins[address]] if address in self.logins else []
        plain = [] if (self.hosts / address).exists() else ["--plain-http"]
        return ["--hosts-dir", self.hosts, *login, *plain]

    def login(self, address: str, user: str, password: str) -> Done:
        """Keep the login; whether it is right is told by the commands that follow."""
        self.logins[address] = f"{user}:{password}"
        return Done(password != "wrong", "")

    def logout(self, address: str) -> Done:
        self.logins.pop(address, None)
        return Done(True, "")

    def pull(self, name: str) -> Done:
        return self.run("images", "pull", "--all-platforms", *self.known(name), name)

    def push(self, name: str) -> Done:
        return self.run("images", "push", *self.known(name), name)

    def tag(self, name: str, new: str) -> Done:
        return self.run("images", "tag", "--force", name, new)

    def remove_all(self) -> Done:
        names = self.ctr("images", "ls", "-q").stdout.split()
        if names:
            self.ctr("images", "rm", "--sync", *names)
        return self.run("content", "prune", "references")


@dataclass
class DockerPy(Client):
    """The library, on an engine."""

    client: docker.DockerClient
    logins: dict[str, dict[str, str]] = field(default_factory=dict)

    def _told(self, name: str, lines: Iterator[dict[str, str]]) -> Done:
        said = list(lines)
        return Done(not any("error" in line for line in said), json.dumps(said))

    def login(self, address: str, user: str, password: str) -> Done:
        try:
            said = self.client.login(user, password, registry=address, reauth=True)
        except docker.errors.APIError as error:
            return Done(False, str(error))
        self.logins[address] = {"username": user, "password": password}
        return Done(True, str(said))

    def logout(self, address: str) -> Done:
        self.logins.pop(address, None)
        self.client.api._auth_configs.get("auths", {}).pop(address, None)
        return Done(True, "")

    def pull(self, name: str) -> Done:
        login = self.logins.get(name.partition("/")[0])
        repository, tag = split(name)
        try:
            lines = self.client.api.pull(repository, tag, True, login, True)
            return self._told(name, lines)
        except docker.errors.APIError as error:
            return Done(False, str(error))

    def push(self, name: str) -> Done:
        login = self.logins.get(name.partition("/")[0])
        lines = self.client.api.push(*split(name), stream=True, auth_config=login, decode=True)
        return self._told(name, lines)

    def tag(self, name: str, new: str) -> Done:
        return Done(self.client.images.get(name).tag(*split(new)), "")

    def remove_all(self) -> Done:
        return Done(bool(self.client.images.prune({"dangling": False})), "")


def split(name: str) -> tuple[str, str]:
    """Return a repository, and the tag or digest after it."""
    before, _, digest = name.partition("@")
    if digest:
        return before, digest
    repository, _, tag = name.rpartition(":")
    return repository, tag


# --- each of them, ready for use ---------------------------------------------------------------


@contextlib.contextmanager
def engine(trust: Path, program: str, *options: str) -> Iterator[Daemon]:
    """Run our engine, or `dockerd`, with its own /etc/docker around `trust`."""
    if program != "dockerd":
        with running("--registry-certs", str(trust), *options) as daemon:
            yield daemon
        return
    place = scratch()
    (place / "certs.d").symlink_to(trust)
    own = f'mkdir -p /etc/docker; mount --bind {place} /etc/docker; exec "$0" "$@"'
    within = ["unshare", "--mount", "sh", "-ec", own]
    try:
        with running(*options, program="dockerd", within=within) as daemon:
            yield daemon
    finally:
        shutil.rmtree(place)


def program(daemon: Daemon, name: str) -> Program:
    """Return `docker` or `sampan` as a client of an engine."""
    return Program([daemon.programs[name]], daemon.namespace, daemon.environment)


@contextlib.contextmanager
def library(daemon: Daemon) -> Iterator[Client]:
    """Return docker-py as a client of an engine."""
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="auto", timeout=60)
    try:
        yield DockerPy(client)
    finally:
        client.close()


@contextlib.contextmanager
def containers(name: str, namespace: str, trust: Path) -> Iterator[Client]:
    """Run podman or buildah with storage and logins of their own."""
    place = scratch()  # they want short paths
    (place / "auth.json").write_text("{}")
    words = [name, "--root", place / "root", "--runroot", place / "run", "--storage-driver", "vfs"]
    environment = {**os.environ, "REGISTRY_AUTH_FILE": f"{place}/auth.json", "HOME": str(place)}
    found = Containers(words, namespace, environment)
    found.trust = trust
    try:
        yield found
        found.remove_all()
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def skopeo(namespace: str, trust: Path) -> Iterator[Client]:
    """Run skopeo with logins of its own."""
    place = scratch()
    (place / "held").mkdir()
    (place / "auth.json").write_text("{}")
    environment = {**os.environ, "REGISTRY_AUTH_FILE": f"{place}/auth.json", "HOME": str(place)}
    environment["XDG_DATA_HOME"] = f"{place}/data"  # what it knows of blobs and registries
    try:
        yield Skopeo(["skopeo"], namespace, environment, trust=trust, folder=place / "held")
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def ctr(namespace: str, trust: Path) -> Iterator[Client]:
    """Run containerd; it takes docker's folders of certificates for its own."""
    with containerd(namespace) as call:
        yield Containerd(call, trust)
