"""A bundle of busybox, and `sampan-runtime` to run it with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import busybox
from tests.session import eventually, unique

RUNTIME = Path(sys.executable).with_name("sampan-runtime")
Done = subprocess.CompletedProcess[str]


class Box:
    """A bundle with a root file system of busybox, and a state directory."""

    def __init__(self, home: Path) -> None:
        self.home, self.root = home, home / "state"
        self.rootfs = home / "rootfs"
        busybox.fill(self.rootfs)
        self("spec", "--bundle", str(home))
        self.spec: dict[str, Any] = json.loads((home / "config.json").read_text())
        self.spec["process"]["terminal"] = False
        self.spec["process"]["rlimits"] = []
        self.spec["root"]["readonly"] = False
        self.id = unique()
        self.spec["linux"]["cgroupsPath"] = f"/{self.id}"

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> Done:
        command = [str(RUNTIME), "--root", str(self.root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def write(self) -> None:
        (self.home / "config.json").write_text(json.dumps(self.spec))

    def run(self, script: str, check: bool = True, **options: Any) -> Done:
        """Run a shell script as the container's program, in the foreground."""
        self.spec["process"]["args"] = ["/bin/sh", "-c", script]
        self.write()
        return self("run", "--bundle", str(self.home), self.id, check=check, **options)

    def create(self, script: str = "sleep 100", *arguments: str, **options: Any) -> Done:
        self.spec["process"]["args"] = ["/bin/sh", "-c", script]
        self.write()
        # Its streams are not ours: who reads a pipe to its end would wait for the container.
        with open(self.home / "output", "w") as out:
            command = [str(RUNTIME), "--root", str(self.root), "create", "--bundle", str(self.home)]
            check = options.pop("check", True)
            done = subprocess.run(
                [*command, *arguments, self.id],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
                timeout=60,
                **options,
            )
        done.stdout = done.stderr = (self.home / "output").read_text()
        assert not check or done.returncode == 0, done.stderr
        return done

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self("state", self.id).stdout)
        return state

    def wait_for(self, status: str) -> None:
        eventually(lambda: self.state()["status"] == status)

    def clean(self) -> None:
        self("delete", "--force", self.id)
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{self.id}")), "a cgroup is left"
        assert not (self.root / self.id).exists(), "a state is left"
