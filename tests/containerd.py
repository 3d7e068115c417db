"""A containerd of Debian's with a data root, a socket and, if wanted, a network of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.session import PATIENCE, eventually, scratch
from tests.wire import within

CONFIG = """
version = 2
root = "{home}/root"
state = "{home}/state"
[grpc]
  address = "{home}/sock"
[ttrpc]
  address = "{home}/ttrpc"
"""
NO_CRI = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
CRI = """
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{home}"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{hosts}"
"""
Ctr = Callable[..., subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def containerd(namespace: str = "") -> Iterator[Ctr]:
    """Run one and yield `ctr`; `namespace` is a network namespace, "" that of this process."""
    with _running(namespace, NO_CRI + CONFIG) as (call, _):
        yield call


@contextlib.contextmanager
def _running(namespace: str, config: str, hosts: Path | str = "") -> Iterator[tuple[Ctr, Path]]:
    home = scratch()  # a socket's path has 108 bytes
    (home / "config.toml").write_text(config.format(home=home, hosts=hosts))

    def call(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", f"{home}/sock", *map(str, arguments)]
        with within(namespace):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    with open(home / "log", "w") as log, within(namespace):
        command = ["containerd", "--config", str(home / "config.toml")]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: call("version", check=False).returncode == 0)
        yield call, home / "sock"
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)
        shutil.rmtree(home)


@dataclass
class ImageService:
    """What Kubernetes' kubelet asks containerd for: its CRI plugin, by gRPC."""

    messages: Any
    calls: Any

    def pull(self, name: str, **auth: str) -> str:
        """Pull an image and return its id; `auth` is `username` and more of AuthConfig.

        Raises grpc.RpcError with what containerd says.
        """
        login = self.messages.AuthConfig(**auth) if auth else None
        asked = self.messages.PullImageRequest(image=self._spec(name), auth=login)
        return str(self.calls.PullImage(asked, timeout=PATIENCE).image_ref)

    def status(self, name: str) -> Any:
        """Return an image; its id is empty if there is none of that name."""
        asked = self.messages.ImageStatusRequest(image=self._spec(name))
        return self.calls.ImageStatus(asked, timeout=PATIENCE).image

    def list(self) -> list[Any]:
        asked = self.messages.ListImagesRequest()
        return list(self.calls.ListImages(asked, timeout=PATIENCE).images)

    def remove(self, name: str) -> None:
        asked = self.messages.RemoveImageRequest(image=self._spec(name))
        self.calls.RemoveImage(asked, timeout=PATIENCE)

    def remove_all(self) -> None:
        for image in self.list():
            self.remove(image.id)

    def _spec(self, name: str) -> Any:
        return self.messages.ImageSpec(image=name)


@contextlib.contextmanager
def image_service(namespace: str, hosts: Path) -> Iterator[ImageService]:
    """Run containerd with its CRI plugin; `hosts` is its folder `certs.d`."""
    import grpc  # starts threads

    messages, services = grpc.protos_and_services("tests/image_service.proto")
    with _running(namespace, CONFIG + CRI, hosts) as (_, socket):
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            yield ImageService(messages, services.ImageServiceStub(channel))
