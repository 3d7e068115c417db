"""A Debian under qemu, in which tests run: pure cgroup v2, systemd, AppArmor, a stable kernel.

    .venv/bin/python -m tests.machine tests/privileged/test_cgroups.py -k unified

runs pytest there with these arguments, and shows the console. No test may depend on the speed of
the machine: without KVM, it is emulated, and ten times slower than this one.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from tests.machine_image import REPOSITORY, make_disk, root_image

MEMORY_MIB = 2048
# KVM exists on machines where it cannot run this kernel: it is used only by those who ask for it.
ACCELERATOR = os.environ.get("SAMPAN_TEST_ACCELERATOR", "tcg,thread=multi")
PATIENCE = 3600.0  # seconds, for all tests together
# The results leave by the second serial port, as text that no line discipline can change.
RUN = """
fallocate -l 256M /swapfile && chmod 600 /swapfile && mkswap -q /swapfile && swapon /swapfile
stty -F /dev/ttyS1 raw
cd {repository}
export PATH={repository}/.machine/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export SAMPAN_TEST_PATIENCE=300
.venv/bin/python -m pytest -p no:cacheprovider --color=no -o timeout=900 --durations=10 \\
    --junitxml=/run/results.xml {arguments} || true
base64 /run/results.xml > /dev/ttyS1
"""


@dataclass(frozen=True)
class Outcome:
    """What pytest said about one test in the machine."""

    name: str
    verdict: str  # passed, failed, error or skipped
    text: str


def run(arguments: list[str], folder: Path) -> list[Outcome]:
    """Start the machine, run pytest in it, and return one outcome for each test.

    Raises AssertionError, with the end of the console, if no result came back.
    """
    image = root_image()
    disk = _repository_disk(folder, shlex.join(arguments))
    console, results = folder / "console", folder / "results"
    line = "console=ttyS0 panic=-1 root=/dev/vda apparmor=1 security=apparmor systemd.getty_auto=0"
    subprocess.run(
        ["qemu-system-x86_64", "-machine", "q35", "-accel", ACCELERATOR]
        + ["-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB), "-nic", "none", "-no-reboot"]
        + ["-display", "none", "-monitor", "none"]
        + ["-kernel", image.kernel, "-initrd", image.initramfs, "-append", line]
        + ["-drive", f"file={image.root},format=raw,if=virtio,snapshot=on"]
        + ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
        + ["-serial", f"file:{console}", "-serial", f"file:{results}"],
        check=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    document = base64.b64decode(results.read_bytes())
    assert document, f"no results came back; the console says:\n{_end(console)}"
    return [_outcome(case) for case in ElementTree.fromstring(document).iter("testcase")]


def _end(console: Path) -> str:
    return console.read_text(errors="replace")[-6000:]


def _outcome(case: ElementTree.Element) -> Outcome:
    name = f"{case.get('classname')}.{case.get('name')}"
    for verdict in ("failure", "error", "skipped"):
        if (found := case.find(verdict)) is not None:
            text = f"{found.get('message')}\n{found.text or ''}"
            return Outcome(name, verdict.replace("failure", "failed"), text)
    return Outcome(name, "passed", "")


def _repository_disk(folder: Path, arguments: str) -> Path:
    """Make a disk of this checkout, with a script that runs pytest with these arguments."""
    tree, disk = folder / "repository", folder / "repository.img"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (source := REPOSITORY / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, tree / name)
    subprocess.run(["cp", "-a", REPOSITORY / ".venv", tree / ".venv"], check=True)
    (tree / ".machine/bin").mkdir(parents=True)
    docker = shutil.which("docker")
    assert docker, "the docker CLI is missing: apt-get install docker.io"
    shutil.copy2(docker, tree / ".machine/bin")
    script = RUN.format(repository=REPOSITORY, arguments=arguments)
    (tree / ".machine/run").write_text(script)
    make_disk(tree, disk, 1 << 10)
    shutil.rmtree(tree)
    return disk


def chosen_files() -> list[str]:
    """Return the test files in which the marker `kernel` occurs."""
    listed = subprocess.run(
        ["git", "grep", "--untracked", "-l", "-F", "mark.kernel", "--", "tests"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return sorted(name for name in listed if Path(name).name.startswith("test_"))


def main() -> None:
    """Run pytest in the machine with the arguments of the command line."""
    with TemporaryDirectory(dir="/var/tmp", prefix="sampan-machine-") as folder:
        outcomes = run(sys.argv[1:] or ["-m", "kernel", *chosen_files()], Path(folder))
        print(Path(folder, "console").read_text(errors="replace"))
    for outcome in outcomes:
        print(f"{outcome.verdict:8}{outcome.name}")
    sys.exit(any(outcome.verdict in ("failed", "error") for outcome in outcomes))


if __name__ == "__main__":
    main()
