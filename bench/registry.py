"""Pushes and pulls a second, CPU and memory: our registry and docker-registry in turn.

    .venv/bin/python bench/registry.py [--sizes 1,10,500] [--clients 1,8] [--runs N] [--lists]
        [--memory]

An image here is one blob of that many MB, one small configuration and a manifest; every push has
content of its own. `--memory` pushes one of 500 MB by each of 16 clients (16 GB of disk). Clients
are processes that send by sendfile and read into one buffer, so they cost little. Both registries
write to the same disk. Prints Markdown tables: images a second (best of all runs), seconds of CPU
for each image, and the registry's peak of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from sampan.registry import paths  # noqa: E402
from sampan.spec.digest import Digest  # noqa: E402
from tests.registries import DEBIANS, OURS, Registry, registry  # noqa: E402

MB = 1 << 20
BUFFER = 1 << 20
MARK = 16  # bytes
COUNTS = {1: 160, 10: 32, 500: 8}  # images of each size, shared by all clients
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'


@dataclass(frozen=True)
class Item:
    """One image to push: its first bytes, the file with the others, and its digest."""

    name: str
    mark: bytes
    path: Path
    digest: str
    size: int

    @property
    def manifest(self) -> bytes:
        config = {"mediaType": "application/vnd.oci.image.config.v1+json"}
        config |= {"digest": sha(CONFIG), "size": len(CONFIG)}
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": self.digest}
        document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE, "config": config}
        return json.dumps(document | {"layers": [layer | {"size": self.size}]}).encode()


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make(folder: Path, size: int, count: int) -> list[Item]:
    """Make items that differ in their first bytes, and share one file."""
    path = folder / str(size)
    body = os.urandom(MB) * (size // MB)
    path.write_bytes(body)
    items = []
    for number in range(count):
        mark = number.to_bytes(MARK, "big")
        digest = hashlib.sha256(mark)
        digest.update(memoryview(body)[MARK:])
        items.append(Item(f"{size}-{number}", mark, path, f"sha256:{digest.hexdigest()}", size))
    return items


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(BUFFER)

    def ask(
        self, method: str, target: str, body: bytes | Item = b"", kind: str = "", status: int = 0
    ) -> tuple[dict[str, str], bytes]:
        """Send a request and read the answer; a large one is thrown away."""
        size = body.size if isinstance(body, Item) else len(body)
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
        head += f"Accept: {MEDIA_TYPE}\r\n"
        head += f"Content-Type: {kind}\r\n\r\n" if kind else "\r\n"
        if isinstance(body, Item):
            self._sock.sendall(head.encode() + body.mark)
            with body.path.open("rb") as file:
                self._sock.sendfile(file, MARK)
        else:
            self._sock.sendall(head.encode() + body)
        data = b""
        while b"\r\n\r\n" not in data:
            got = self._sock.recv(65536)
            assert got, "the registry hung up"
            data += got
        top, _, rest = data.partition(b"\r\n\r\n")
        lines = top.decode().split("\r\n")
        assert not status or int(lines[0].split()[1]) == status, data
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        if headers.get("transfer-encoding") == "chunked":
            while not rest.endswith(b"\r\n0\r\n\r\n"):
                rest += self._sock.recv(BUFFER)
        left = length - len(rest)
        while left > 0:
            count = self._sock.recv_into(self._buffer)
            assert count, "the registry hung up"
            if length < BUFFER:
                rest += self._buffer[:count]
            left -= count
        return headers, rest

    def upload(self, name: str, digest: str, body: bytes | Item) -> None:
        headers, _ = self.ask("POST", f"/v2/{name}/blobs/uploads/", status=202)
        target = re.sub(r"^https?://[^/]+", "", headers["location"])
        mark = "&" if "?" in target else "?"
        self.ask("PUT", f"{target}{mark}digest={digest}", body, "application/octet-stream", 201)

    def push(self, name: str, tag: str, item: Item) -> None:
        """Do what clients do: look, send what is missing, put the manifest."""
        for digest, body in ((item.digest, item), (sha(CONFIG), CONFIG)):
            headers, _ = self.ask("HEAD", f"/v2/{name}/blobs/{digest}")
            if "docker-content-digest" not in headers:
                self.upload(name, digest, body)
        self.ask("PUT", f"/v2/{name}/manifests/{tag}", item.manifest, MEDIA_TYPE, 201)

    def pull(self, name: str, tag: str, item: Item) -> None:
        self.ask("GET", f"/v2/{name}/manifests/{tag}", status=200)
        for digest in (sha(CONFIG), item.digest):
            self.ask("GET", f"/v2/{name}/blobs/{digest}", status=200)


def work(port: int, verb: str, name: str, items: list[Item], gate: object) -> None:
    """Be one client process."""
    client = Client(port)
    gate.wait()  # type: ignore[attr-defined]
    for item in items:
        getattr(client, verb)(name, item.name, item)


@dataclass
class Result:
    rate: float
    cpu: float
    peak: int


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) * 1024 if found else 0


def measure(hub: Registry, verb: str, name: str, items: list[Item], clients: int) -> Result:
    """Let all clients work at once."""
    assert hub.process
    pid = hub.process.pid
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(clients + 1)
    workers = [
        context.Process(target=work, args=(hub.site.port, verb, name, items[n::clients], gate))
        for n in range(clients)
    ]
    for worker in workers:
        worker.start()
    gate.wait()
    begun, cpu = time.monotonic(), cpu_of(pid)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    spent = time.monotonic() - begun
    return Result(len(items) / spent, (cpu_of(pid) - cpu) / len(items), peak_of(pid))


def fill(storage: Path) -> None:
    """Write 1,000 repositories, one with 10,000 tags, as docker-registry leaves them."""
    item = Item("x", b"", Path(), sha(CONFIG), len(CONFIG))
    manifest = sha(item.manifest)
    files = {paths.blob(Digest(sha(c))): c for c in (CONFIG, item.manifest)}
    for number in range(1000):
        name = f"many/repository-{number}"
        for digest in (sha(CONFIG),):
            files[f"{paths.layer_folder(name, Digest(digest))}/link"] = digest.encode()
        files[f"{paths.revision_folder(name, Digest(manifest))}/link"] = manifest.encode()
        for tag in range(10_000 if number == 0 else 1):
            files[paths.tag_current(name, f"tag-{tag}")] = manifest.encode()
            index = paths.tag_index(name, f"tag-{tag}", Digest(manifest))
            files[index] = manifest.encode()
    for path, content in files.items():
        (storage / path).parent.mkdir(parents=True, exist_ok=True)
        (storage / path).write_bytes(content)


def lists(storage: Path, program: tuple[str, ...]) -> dict[str, Result]:
    """Start a registry on many repositories and tags, and list them."""
    begun = time.monotonic()
    with registry(storage=storage, program=program) as hub:
        started = Result(1 / (time.monotonic() - begun), 0, 0)
        return {"start": started, **_lists(hub)}


def _lists(hub: Registry) -> dict[str, Result]:
    client = Client(hub.site.port)
    found = {}
    for title, target, count in (
        ("catalog, 100 of 1,000", "/v2/_catalog?n=100", 100),
        ("catalog, all 1,000", "/v2/_catalog?n=1000", 100),
        ("tags, 100 of 10,000", "/v2/many/repository-0/tags/list?n=100", 100),
        ("tags, all 10,000", "/v2/many/repository-0/tags/list", 300),
    ):
        assert hub.process
        begun, cpu = time.monotonic(), cpu_of(hub.process.pid)
        for _ in range(count):
            client.ask("GET", target, status=200)
        spent = time.monotonic() - begun
        spent_cpu = (cpu_of(hub.process.pid) - cpu) / count
        found[title] = Result(count / spent, spent_cpu, peak_of(hub.process.pid))
    return found


def table(title: str, rows: dict[str, tuple[Result, Result]], unit: str) -> None:
    print(f"\n| {title} | ours {unit}/s | docker-registry | ratio | CPU ms | | peak MB | |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (ours, theirs) in rows.items():
        print(
            f"| {name} | {ours.rate:.2f} | {theirs.rate:.2f} | {ours.rate / theirs.rate:.2f}"
            f" | {ours.cpu * 1000:.1f} | {theirs.cpu * 1000:.1f}"
            f" | {ours.peak // MB} | {theirs.peak // MB} |"
        )


def best(samples: list[Result]) -> Result:
    return Result(
        max(s.rate for s in samples), min(s.cpu for s in samples), max(s.peak for s in samples)
    )


def transfers(size: int, clients: int, runs: int) -> dict[str, tuple[Result, Result]]:
    """Push and pull images of one size."""
    folder = Path(tempfile.mkdtemp(prefix="bench-registry-", dir="/var/tmp"))
    samples: dict[tuple[str, str], list[Result]] = {}
    try:
        items = make(folder, size * MB, max(COUNTS.get(size, 16), clients))
        for _ in range(runs):
            for who, program in (("theirs", DEBIANS), ("ours", OURS)):
                with registry(program=program) as hub:
                    # docker-registry 2.8 fails where several push the same blob for the first time.
                    Client(hub.site.port).upload("bench/app", sha(CONFIG), CONFIG)
                    for verb in ("push", "pull"):
                        found = measure(hub, verb, "bench/app", items, clients)
                        samples.setdefault((who, verb), []).append(found)
    finally:
        shutil.rmtree(folder)
    title = f"{size} MB, {clients} client{'s' if clients > 1 else ''}"
    return {
        f"{verb} {title}": (best(samples["ours", verb]), best(samples["theirs", verb]))
        for verb in ("push", "pull")
    }


def memory(clients: int = 16, size: int = 500) -> dict[str, tuple[Result, Result]]:
    """Let many clients push a large image each."""
    folder = Path(tempfile.mkdtemp(prefix="bench-registry-", dir="/var/tmp"))
    found = []
    try:
        items = make(folder, size * MB, clients)
        for program in (OURS, DEBIANS):
            with registry(program=program) as hub:
                Client(hub.site.port).upload("bench/app", sha(CONFIG), CONFIG)
                found.append(measure(hub, "push", "bench/app", items, clients))
    finally:
        shutil.rmtree(folder)
    return {f"push {size} MB, {clients} clients": (found[0], found[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    numbers: Callable[[str], list[int]] = lambda text: [int(n) for n in text.split(",") if n]  # noqa: E731
    parser.add_argument("--sizes", type=numbers, default=[1, 10, 500])
    parser.add_argument("--clients", type=numbers, default=[1, 8])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--lists", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    rows: dict[str, tuple[Result, Result]] = {}
    for size in options.sizes:
        for clients in options.clients:
            rows |= transfers(size, clients, options.runs)
    if options.memory:
        rows |= memory()
    if rows:
        table("images", rows, "images")
    if options.lists:
        storage = Path(tempfile.mkdtemp(prefix="bench-registry-", dir="/var/tmp"))
        try:
            fill(storage)
            theirs, ours = lists(storage, DEBIANS), lists(storage, OURS)
        finally:
            shutil.rmtree(storage)
        table("lists", {name: (ours[name], theirs[name]) for name in ours}, "lists")
    print(f"\nload: {os.getloadavg()}")


if __name__ == "__main__":
    main()
