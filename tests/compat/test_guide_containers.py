"""The guide's chapter on containers (3.2), command by command, with our CLI and with docker's.

Each test is one section; what the guide prints is what must come out. `ubuntu` there is a small
busybox image here, under the same names.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.daemon import Daemon
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

IMAGE = "ubuntu:18.04"
PROMPT = r"/ # "
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["sampan", "docker"])
def cli(request: pytest.FixtureRequest, daemon: Daemon) -> str:
    """The program under test: ours, or the unmodified docker CLI."""
    program: str = daemon.programs[request.param]
    daemon.import_image(IMAGE)
    daemon.import_image("ubuntu:latest")
    return program


@pytest.fixture
def run(cli: str, daemon: Daemon) -> Iterator[Run]:
    def run(*arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [cli, *arguments],
            env=daemon.environment,
            input=input,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    yield run
    daemon.remove_containers()


@pytest.fixture
def console(cli: str, daemon: Daemon) -> Iterator[Callable[..., pexpect.spawn]]:
    """Start the CLI on a terminal, as a person does."""
    opened: list[pexpect.spawn] = []

    def console(*arguments: str) -> pexpect.spawn:
        child = pexpect.spawn(cli, list(arguments), env=daemon.environment, timeout=PATIENCE)
        opened.append(child)
        return child

    yield console
    for child in opened:
        child.close(force=True)


def loop(run: Run, *options: str) -> str:
    """Start the guide's endless greeting in the background and return the container's id."""
    result = run(
        "run",
        "-d",
        *options,
        IMAGE,
        "/bin/sh",
        "-c",
        "while true; do echo hello world; sleep 1; done",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_3_2_2_run_prints_hello_world_and_ends(run: Run) -> None:
    result = run("run", IMAGE, "/bin/echo", "Hello world")
    assert (result.returncode, result.stdout, result.stderr) == (0, "Hello world\n", "")


def test_3_2_2_an_interactive_terminal(console: Callable[..., pexpect.spawn], run: Run) -> None:
    child = console("run", "-t", "-i", IMAGE, "/bin/sh")
    child.expect(PROMPT)
    child.sendline("pwd")
    child.expect("\r\n/\r\n")
    child.sendline("ls")
    child.expect("bin")
    child.expect("var")
    child.expect(PROMPT)
    child.sendline("ps")
    child.expect(r"1 root .*sh")
    child.sendline("hostname")
    child.expect(r"[0-9a-f]{12}")
    child.sendline("exit 3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def test_3_2_3_a_stopped_container_starts_again(run: Run) -> None:
    assert run("run", "--name", "again", IMAGE, "/bin/echo", "one more").stdout == "one more\n"
    assert run("start", "again").stdout == "again\n"
    eventually(lambda: run("logs", "again").stdout == "one more\none more\n")
    eventually(lambda: run("ps", "-q", "--filter", "name=again").stdout == "")
    assert run("start", "-a", "again").stdout == "one more\n"


def test_3_2_4_a_daemonized_container_is_listed_and_logged(run: Run) -> None:
    container = loop(run)
    assert re.fullmatch("[0-9a-f]{64}", container)

    header, row = run("ps").stdout.splitlines()
    assert header.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    assert re.match(
        rf"{container[:12]}   {IMAGE}   \"/bin/sh -c 'while t…\"   "
        r".* ago +Up .*   +[a-z]+_[a-z0-9]+$",
        row,
    )
    name = row.split()[-1]
    eventually(lambda: run("logs", name).stdout.startswith("hello world\n"))
    eventually(lambda: run("logs", name).stdout.count("hello world\n") >= 2)


def test_3_2_5_stop_list_all_start_restart(run: Run) -> None:
    container = loop(run, "--stop-timeout", "0")
    assert run("stop", "-t", "0", container).stdout == f"{container}\n"
    assert container[:12] not in run("ps").stdout
    assert re.search(rf"{container[:12]} .* Exited \(137\)", run("ps", "-a").stdout)
    assert run("start", container).returncode == 0
    before = run("inspect", "-f", "{{.State.StartedAt}}", container).stdout
    assert run("restart", "-t", "0", container).returncode == 0
    assert run("inspect", "-f", "{{.State.StartedAt}}", container).stdout > before
    assert container[:12] in run("ps").stdout


def test_3_2_5_leaving_the_shell_ends_the_container(
    console: Callable[..., pexpect.spawn], run: Run
) -> None:
    child = console("run", "-t", "-i", "--name", "leaving", IMAGE, "/bin/sh")
    child.expect(PROMPT)
    child.sendeof()
    child.expect(pexpect.EOF)
    assert run("inspect", "-f", "{{.State.Status}}", "leaving").stdout == "exited\n"


def test_3_2_6_1_attach_shows_the_same_shell_to_everyone(
    console: Callable[..., pexpect.spawn], run: Run
) -> None:
    name = "shared"
    assert run("run", "-idt", "--name", name, "ubuntu", "/bin/sh").returncode == 0
    first, second = console("attach", name), console("attach", name)
    for child in (first, second):  # what is said before it is attached it does not hear
        child.sendline("")
        child.expect(PROMPT)
    first.sendline("echo seen by $((40 + 2))")
    first.expect("seen by 42")
    second.expect("seen by 42")
    second.sendline("echo and back $((20 + 1))")
    first.expect("and back 21")
    first.send("\x10\x11")  # ctrl-p ctrl-q
    first.expect("read escape sequence")
    first.expect(pexpect.EOF)
    assert run("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_3_2_6_2_nsenter_enters_by_the_pid_of_inspect(run: Run) -> None:
    container = run("run", "-idt", "--hostname", "inside", "ubuntu", "/bin/sh").stdout.strip()
    pid = run("inspect", "--format", "{{ .State.Pid }}", container).stdout.strip()
    assert int(pid) > 1
    entered = subprocess.run(
        ["nsenter", "--target", pid, "--mount", "--uts", "--ipc", "--net", "--pid"]
        + ["/bin/sh", "-c", "hostname; ls /; ps; ip addr show eth0"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert entered.stdout.startswith("inside\nbin\n")
    assert re.search(r"1 root .*/bin/sh", entered.stdout)
    assert "inet 172." in entered.stdout


def test_3_2_6_2_ip_netns_reaches_the_network_namespace(run: Run, tmp_path: Path) -> None:
    container = run("run", "-d", "ubuntu", "sleep", "1000").stdout.strip()
    pid = run("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    address = run("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container)
    link = Path(f"/run/netns/guide-{os.getpid()}")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(f"/proc/{pid}/ns/net")
    try:
        shown = subprocess.run(
            ["ip", "netns", "exec", link.name, "ip", "-4", "-o", "address", "show", "eth0"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        link.unlink()
    assert f"inet {address.stdout.strip()}/" in shown.stdout


def test_3_2_7_export_and_import(run: Run, cli: str, daemon: Daemon, tmp_path: Path) -> None:
    container = run("run", "-d", IMAGE, "/bin/sh", "-c", "echo kept > /root/file; sleep 1000")
    container_id = container.stdout.strip()
    eventually(lambda: run("exec", container_id, "cat", "/root/file").stdout == "kept\n")

    archive = tmp_path / "ubuntu.tar"
    with archive.open("wb") as file:
        subprocess.run(
            [cli, "export", container_id], env=daemon.environment, stdout=file, check=True
        )
    imported = subprocess.run(
        f"cat {archive} | {cli} import - test/ubuntu:v1.0",
        shell=True,
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", imported.stdout)

    listed = run("images", "test/ubuntu").stdout.splitlines()
    assert re.match(r"REPOSITORY +TAG +IMAGE ID +CREATED +SIZE", listed[0])
    assert re.match(r"test/ubuntu +v1.0 +[0-9a-f]{12} +.* ago +[0-9.]+MB", listed[1])
    again = run("run", "--rm", "test/ubuntu:v1.0", "cat", "/root/file")
    assert again.stdout == "kept\n"
    assert run("history", "-q", "test/ubuntu:v1.0").stdout.count("\n") == 1
    assert run("rmi", "test/ubuntu:v1.0").stdout.startswith("Untagged: test/ubuntu:v1.0\n")


def test_3_2_8_rm_refuses_a_running_container_without_force(run: Run) -> None:
    container = loop(run, "--name", "trusting_newton")
    refused = run("rm", "trusting_newton")
    assert refused.returncode == 1
    assert (
        "cannot remove" in refused.stderr
        or "You cannot remove a running container" in refused.stderr
    )
    assert run("rm", "-f", "trusting_newton").stdout == "trusting_newton\n"
    assert run("inspect", container).returncode == 1

    assert run("run", "--name", "trusting_newton", IMAGE, "true").returncode == 0
    assert run("rm", "trusting_newton").stdout == "trusting_newton\n"
