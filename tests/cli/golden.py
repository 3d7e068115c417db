"""Golden files: `python -m tests.cli.golden` writes them again after a wanted change."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "DOCKER_HOST": "unix:///nonexistent/engine.sock",
    "DOCKER_CONFIG": "/nonexistent",
    "LANG": "C",
}
# Every command line here fails, or ends, before it would need a daemon.
ERRORS = [
    "nope",
    "--nope ps",
    "container nope",
    "container --nope",
    "image -z",
    "-H a -H b ps",
    "-l nope ps",
    "--context nope ps",
    "ps",
    "ps operand",
    "ps --last=x",
    "ps --filter label",
    "run",
    "run --foo busybox",
    "run -iz busybox",
    "run --name",
    "run --rm=maybe busybox",
    "run -m lots busybox",
    "run --cpus=many busybox",
    "run --pull=sometimes busybox",
    "run --restart=always --rm busybox",
    "run -d -a stdout busybox",
    "run -it busybox",
    "run --detach-keys=ctrl-1 busybox",
    "run Busybox",
    "create --pid=x busybox",
    "exec",
    "exec -z x y",
    "start -a a b",
    "stop -t x a",
    "stop --time 1 --timeout 2 a",
    "update a",
    "rename a",
    "rm",
    "cp a",
    "cp a b",
    "cp a:/x b:/y",
    "cp nope a:/x",
    "port a b c",
    "tag a B",
    "inspect --type=nope a",
    "inspect -f {{.Id a",
    "events --format {{",
    "logs --since=yesterday a",
    "import /nonexistent/file",
    "load -i /nonexistent/file",
    "wait",
    "pull",
    "pull X",
    "pull -a x:1",
    "pull --disable-content-trust=false x",
    "push",
    "push --platform a/b/c/d x",
    "login a b",
    "login -u  x",
    "login --password-stdin x",
    "login -p x --password-stdin -u x",
    "login x",
    "logout a b",
    "search",
    "search -f stars x",
    "manifest nope",
    "manifest inspect",
    "manifest create a",
    "manifest annotate A b",
    "manifest push nope",
    "manifest rm nope A",
    "images --tree -q",
    "system check x",
    "system prune --volumes --filter until=1h",
    "network nope",
    "network create",
    "network create --subnet 10.1.0.0/16 --subnet 10.1.2.0/24 x",
    "network create --gateway 10.1.0.1 x",
    "network create --subnet 10.1.0.0/16 --gateway 10.2.0.1 x",
    "network create --subnet 10.1.0.0/16 --ip-range 10.2.0.0/24 x",
    "network create --subnet 10.1.0.0/16 --aux-address a=10.2.0.1 x",
    "network connect x",
    "network connect --ip x y z",
    "network connect --driver-opt x y z",
    "network rm",
    "volume rm",
    "volume create a b",
    "volume prune -a --filter all=1",
    "volume create --limit-bytes lots",
    "volume update",
    "volume nope",
    "help nope",
]


def transcript(arguments: list[str]) -> str:
    """Run the command line, and return what it printed and its status."""
    result = subprocess.run(
        [sys.executable, "-m", "sampan.cli.main", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        cwd="/",
        check=False,
    )
    return (
        f"$ sampan {' '.join(arguments)}\n{result.stdout}"
        + "".join(f"! {line}\n" for line in result.stderr.splitlines())
        + f"= {result.returncode}\n"
    )


def helps() -> dict[str, list[str]]:
    """Return the golden files of help texts: their names and command lines."""
    from sampan.cli.command_tree import GROUPS
    from sampan.cli.reference import commands

    lines = {"sampan": ["--help"]} | {name: [name, "--help"] for name in GROUPS}
    return lines | {path.replace(" ", "-"): [*path.split(), "--help"] for path in commands()}


def write() -> None:
    """Write all golden files."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.golden"):
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    for name, arguments in helps().items():
        (FOLDER / f"{name}.golden").write_text(transcript(arguments))
    (FOLDER / "errors.golden").write_text("\n".join(transcript(line.split(" ")) for line in ERRORS))


if __name__ == "__main__":
    write()
