"""Servers of object storages for tests: moto speaks S3, an emulator Google's, Azurite Azure's."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

HOST = "127.0.0.1"
PATIENCE = 60.0
PROGRAMS = Path(sys.executable).parent
NODE_MODULES = PROGRAMS.parent / "npm/node_modules"  # see packaging/prepare
# Azurite's only account, which everybody knows.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
EMULATOR = "STORAGE_EMULATOR_HOST"
_numbers = itertools.count()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


@contextlib.contextmanager
def process(command: Sequence[str], port: int, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end, from the moment on when it listens."""
    with tempfile.TemporaryFile() as log:
        made = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **more)
        try:
            wait(lambda: listens(port) or made.poll() is not None)
            if made.poll() is not None:
                log.seek(0)
                raise AssertionError(log.read().decode(errors="replace"))
            yield made
        finally:
            made.terminate()
            made.wait(PATIENCE)


def wait(done: Callable[[], bool]) -> None:
    """Return once something is true."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def fresh(word: str = "bucket") -> str:
    """Return a name that nobody has used in this session."""
    return f"{word}-{os.getpid()}-{next(_numbers)}"


@contextlib.contextmanager
def moto() -> Iterator[dict[str, Any]]:
    """Run a server that speaks S3; yield the options of the driver, but for the bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with process(command, port, env={**os.environ, "PYTHONWARNINGS": "ignore"}):
        yield {
            "accesskey": "key",
            "secretkey": "secret",
            "regionendpoint": f"http://{HOST}:{port}",
            "region": "us-east-1",
        }


def s3_bucket(options: dict[str, Any]) -> dict[str, Any]:
    """Make a bucket and return the options that open it."""
    from botocore.session import Session

    name = fresh()
    client = Session().create_client(
        "s3",
        region_name=options["region"],
        endpoint_url=options["regionendpoint"],
        aws_access_key_id=options["accesskey"],
        aws_secret_access_key=options["secretkey"],
    )
    client.create_bucket(Bucket=name)
    client.close()
    return {**options, "bucket": name}


@contextlib.contextmanager
def gcs() -> Iterator[dict[str, Any]]:
    """Run an emulator of Google's; it is found by a variable, as by docker-registry."""
    port = free_port()
    command = [str(PROGRAMS / "gcp-storage-emulator"), "start", "-M", "-q"]
    with process([*command, "--host", HOST, "--port", str(port)], port):
        before = os.environ.get(EMULATOR)
        os.environ[EMULATOR] = f"http://{HOST}:{port}"
        try:
            yield {}
        finally:
            os.environ.pop(EMULATOR)
            if before is not None:
                os.environ[EMULATOR] = before


def gcs_bucket(options: dict[str, Any]) -> dict[str, Any]:
    """Make a bucket and return the options that open it."""
    from google.cloud.storage import Client

    name = fresh()
    client = Client(project="test")
    client.create_bucket(name)
    client.close()
    return {**options, "bucket": name}


@contextlib.contextmanager
def azure() -> Iterator[dict[str, Any]]:
    """Run Azurite; skip where there is none, for it comes from npm."""
    program = shutil.which("azurite-blob") or shutil.which(
        "azurite-blob", path=str(NODE_MODULES / ".bin")
    )
    if program is None:
        pytest.skip("azurite is not installed: packaging/prepare check needs npm for it")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="sampan-azurite-") as folder:
        command = [program, "--blobHost", HOST, "--blobPort", str(port), "--silent"]
        command += ["--location", folder, "--skipApiVersionCheck", "--disableTelemetry"]
        with process(command, port):
            yield {
                "accountname": "devstoreaccount1",
                "accountkey": AZURITE_KEY,
                "serviceurl": f"http://{HOST}:{port}/devstoreaccount1",
            }


def azure_container(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that open a new container, which the driver makes."""
    return {**options, "container": fresh("container")}
