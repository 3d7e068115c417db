"""What the guide's commands need: a shell on a daemon's host, and the images that are run.

In the shell, `docker` is the program under test.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests import busybox
from tests.daemon import Daemon

WEBAPP = """#!/bin/sh
# What `python app.py` of the guide's image says and serves.
echo " * Running on http://0.0.0.0:5000/ (Press CTRL+C to quit)"
mkdir -p /www && echo "Hello world!" > /www/index.html
exec httpd -f -p "${PORT:-5000}" -h /www
"""
BASH = '#!/bin/sh\nexec /bin/sh "$@"\n'


@dataclass
class Shell:
    """Runs lines as the guide prints them, as root on the daemon's host; `sudo` does nothing.

    Everything is in a mount namespace of its own: the guide makes links in /var/run/netns.
    """

    daemon: Daemon
    folder: Path

    def __init__(self, daemon: Daemon, program: str, folder: Path) -> None:
        self.daemon, self.folder = daemon, folder
        (folder / "docker").symlink_to(daemon.programs[program])
        (folder / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (folder / "sudo").chmod(0o755)

    def __call__(self, lines: str, *, fails: bool = False) -> str:
        """Return what the lines print; the first that fails ends them."""
        # brctl looks for bridges in /sys, which would show those of this machine.
        own = "mount -t tmpfs tmpfs /run/netns; mount -t sysfs sysfs /sys\n"
        script = own + textwrap.dedent(lines)
        path = f"{self.folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            ["unshare", "--mount", *self.daemon.enter, "bash", "-e", "-c", script],
            env={**self.daemon.environment, "PATH": path, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return (done.stderr if fails else done.stdout).strip()


def import_image(
    daemon: Daemon, reference: str, files: Mapping[str, str], changes: Sequence[str] = ()
) -> None:
    """Give the daemon a busybox image with more programs, once."""
    if reference in daemon.images:
        return
    buffer = io.BytesIO()
    buffer.write(busybox.archive())
    buffer.seek(0)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
    more = "".join(f"&changes={quote(change)}" for change in changes)
    answer = daemon.request(
        "POST",
        f"/images/create?fromSrc=-&repo={reference}&tag=latest{more}",
        buffer.getvalue(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200, answer.body
    assert b"errorDetail" not in answer.body, answer.body
    daemon.images.add(reference)


def import_webapp(daemon: Daemon) -> None:
    """Give the daemon the guide's web server."""
    import_image(
        daemon,
        "training/webapp",
        {"bin/bash": BASH, "bin/python": WEBAPP},
        ["EXPOSE 5000", "WORKDIR /opt/webapp"],
    )


def import_images(daemon: Daemon) -> None:
    """Give the daemon what the chapter on networks runs."""
    import_image(daemon, "base", {"bin/bash": BASH})
    import_webapp(daemon)
    import_image(
        daemon,
        "training/postgres",
        {},
        ["EXPOSE 5432", "CMD while true; do nc -l -p 5432 -e cat; done"],
    )
