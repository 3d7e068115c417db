"""The guide's chapter on data (4), command by command, with our CLI and with docker's.

Each test is one section; what the guide prints is what must come out. `ubuntu` there is a small
busybox image here, and `bash` its shell; `/data/web` is a folder of the test.
"""

from __future__ import annotations

import json
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

PROMPT = r"/[a-z0-9]* # "
Run = Callable[..., subprocess.CompletedProcess[str]]
Console = Callable[..., pexpect.spawn]


@pytest.fixture(params=["sampan", "docker"])
def cli(request: pytest.FixtureRequest, daemon: Daemon) -> str:
    """The program under test: ours, or the unmodified docker CLI."""
    daemon.import_image("ubuntu:latest")
    return daemon.programs[request.param]


@pytest.fixture
def run(cli: str, daemon: Daemon, tmp_path: Path) -> Iterator[Run]:
    def run(*arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [cli, *arguments],
            env=daemon.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
        )
        assert bool(result.returncode) == fails, result.stderr
        return result

    yield run
    daemon.remove_containers()


@pytest.fixture
def console(cli: str, daemon: Daemon) -> Iterator[Console]:
    """Start the CLI on a terminal, as a person does."""
    opened: list[pexpect.spawn] = []

    def console(*arguments: str) -> pexpect.spawn:
        child = pexpect.spawn(cli, list(arguments), env=daemon.environment, timeout=PATIENCE)
        child.delayafterterminate = 5  # seconds at most: the machine may be busy
        opened.append(child)
        return child

    yield console
    for child in opened:
        child.close(force=True)


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """The guide's /data/web, which is not there yet."""
    return tmp_path / "data/web"


def say(child: pexpect.spawn, line: str) -> str:
    """Type a line, and return what comes before the next prompt."""
    child.sendline(line)
    child.expect_exact(line)
    child.expect(PROMPT)
    return str((child.before or b"").decode().strip())


# --- 4.1 -----------------------------------------------------------------------------------------


def test_4_1_1_a_data_volume_is_a_folder_of_the_host(run: Run, console: Console) -> None:
    child = console("run", "-it", "--name", "test1", "-v", "/test1", "ubuntu", "sh")
    child.expect(PROMPT)
    assert run("inspect", "-f", "{{.Config.Volumes}}", "test1").stdout == "map[/test1:{}]\n"
    (mount,) = json.loads(run("inspect", "-f", "{{json .Mounts}}", "test1").stdout)
    assert re.fullmatch("[0-9a-f]{64}", mount["Name"])
    assert mount["Source"].endswith(f"/volumes/{mount['Name']}/_data")
    expected = {"Type": "volume", "Destination": "/test1", "Driver": "local", "RW": True}
    assert mount.items() >= expected.items()
    assert (mount["Mode"], mount["Propagation"]) == ("", "")
    assert say(child, "cd /test1; pwd") == "/test1"
    say(child, "echo 123 >a")
    assert say(child, "cat a") == "123"
    assert os.listdir(mount["Source"]) == ["a"]
    assert Path(mount["Source"], "a").read_text() == "123\n"


def test_4_1_1_several_volumes_and_those_of_an_image(run: Run) -> None:
    run("run", "--name", "base", "ubuntu", "true")
    run("commit", "-c", "VOLUME /one", "-c", 'VOLUME ["/two", "/three"]', "base", "with-volumes")
    run("run", "--name", "test1", "-v", "/four", "-v", "/five", "with-volumes", "true")
    shown = run("inspect", "-f", "{{range .Mounts}}{{.Destination}} {{end}}", "test1").stdout
    assert sorted(shown.split()) == ["/five", "/four", "/one", "/three", "/two"]
    run("rm", "-v", "test1", "base")
    run("rmi", "with-volumes")


def test_4_1_2_a_host_folder_is_made_and_seen_by_both(
    run: Run, console: Console, web: Path
) -> None:
    child = console("run", "-it", "--name", "test1", "-v", f"{web}:/web", "ubuntu", "sh")
    child.expect(PROMPT)
    say(child, "cd /web/; echo 'Hello Volume' > b.txt")
    assert say(child, "cat b.txt") == "Hello Volume"
    assert (web / "b.txt").read_text() == "Hello Volume\n"
    (web / "from-host").write_text("at once\n")
    assert say(child, "cat from-host") == "at once"


def test_4_1_2_a_relative_path_is_refused_and_dot_is_made_absolute(run: Run, web: Path) -> None:
    refused = run("run", "-v", "data/web:/web", "ubuntu", "true", fails=True)
    assert "includes invalid characters for a local volume name" in refused.stderr
    assert "If you intended to pass a host directory, use absolute path" in refused.stderr
    assert not web.exists()
    run("run", "--rm", "-v", "./data/web:/web", "ubuntu", "touch", "/web/x")
    assert (web / "x").exists()


def test_4_1_2_read_only(run: Run, web: Path) -> None:
    refused = run("run", "-v", f"{web}:/web:ro", "ubuntu", "touch", "/web/x", fails=True)
    assert "Read-only file system" in refused.stderr
    assert os.listdir(web) == []


def test_4_1_3_a_single_file(run: Run, tmp_path: Path) -> None:
    history = tmp_path / ".bash_history"
    history.write_text("ls\n")
    command = "cat /.bash_history; echo pwd >> /.bash_history"
    shown = run("run", "--rm", "-v", f"{history}:/.bash_history", "ubuntu", "sh", "-c", command)
    assert shown.stdout == "ls\n"
    assert history.read_text() == "ls\npwd\n"


def test_4_1_3_an_editor_cannot_replace_a_single_file_but_one_in_its_folder(
    run: Run, tmp_path: Path
) -> None:
    """The guide: an editor that changes the inode fails, so mount the folder."""
    (tmp_path / "file").write_text("a\n")
    edit = "sed -i s/a/b/ /x/file"
    failed = run("run", "-v", f"{tmp_path}/file:/x/file", "ubuntu", "sh", "-c", edit, fails=True)
    assert "busy" in failed.stderr.lower()
    run("run", "-v", f"{tmp_path}:/x", "ubuntu", "sh", "-c", edit)
    assert (tmp_path / "file").read_text() == "b\n"


# --- 4.2 -----------------------------------------------------------------------------------------


def test_4_2_1_data_volume_containers(run: Run, console: Console, web: Path) -> None:
    run("run", "--name", "dbdata", "-v", f"{web}:/web", "-v", "/own", "ubuntu", "true")
    child = console("run", "--name", "db1", "-it", "--volumes-from", "dbdata", "ubuntu", "sh")
    child.expect(PROMPT)
    say(child, "touch /web/c.txt /own/d.txt")
    run("run", "-d", "--name", "db3", "--volumes-from", "db1", "ubuntu", "sleep", "100")
    assert run("exec", "db3", "ls", "/web", "/own").stdout.split() == [
        *("/own:", "d.txt", "/web:", "c.txt")
    ]
    more = run("run", "--volumes-from", "dbdata:ro", "--volumes-from", "db3", "ubuntu", "mount")
    assert " /web " in more.stdout


def test_4_2_1_volumes_live_until_the_last_container_goes_with_rm_v(run: Run, web: Path) -> None:
    run("run", "--name", "dbdata", "-v", f"{web}:/web", "-v", "/own", "ubuntu", "touch", "/own/x")
    run("run", "--name", "db1", "--volumes-from", "dbdata", "ubuntu", "true")
    (volume,) = run("volume", "ls", "-q").stdout.split()
    in_use = run("volume", "rm", volume, fails=True)
    assert "volume is in use" in in_use.stderr
    run("rm", "-v", "dbdata")
    assert run("volume", "ls", "-q").stdout.split() == [volume]
    run("rm", "db1")
    assert run("volume", "ls", "-q", "-f", "dangling=true").stdout.split() == [volume]
    run("run", "--name", "db2", "-v", f"{volume}:/again", "ubuntu", "ls", "/again/x")
    run("rm", "-v", "db2")
    assert run("volume", "ls", "-q").stdout.split() == [volume], "a name keeps a volume"
    assert run("volume", "rm", volume).stdout == f"{volume}\n"
    assert web.is_dir()


def test_4_2_2_backup_restore_and_migration(
    run: Run, console: Console, web: Path, tmp_path: Path
) -> None:
    run("run", "--name", "dbdata", "-v", f"{web}:/web", "ubuntu", "true")
    run("run", "-dit", "--name", "db1", "--volumes-from", "dbdata", "ubuntu", "sh")
    (web / "c.txt").write_text("c")
    (web / "d.txt").write_text("d")
    child = console("attach", "db1")
    child.sendline("")
    child.expect(PROMPT)
    say(child, "cd /web/")
    listed = say(child, "tar cf /tmp/backup.tar ./ && mv /tmp/backup.tar . && tar tf backup.tar")
    assert sorted(listed.split()) == ["./", "./c.txt", "./d.txt"]
    (web / "backup.tar").rename(tmp_path / "backup.tar")
    # Restore: into a volume of a new container, by one more that has both.
    run("run", "-v", "/dbdata", "--name", "dbdata2", "ubuntu", "true")
    backup = ["-v", f"{tmp_path}:/backup", "busybox"]
    unpacked = run(
        *("run", "--volumes-from", "dbdata2", "-w", "/dbdata", *backup),
        *("tar", "xvf", "/backup/backup.tar"),
    )
    assert sorted(unpacked.stdout.split()) == ["./", "./c.txt", "./d.txt"]
    shown = run("run", "--volumes-from", "dbdata2", "ubuntu", "cat", "/dbdata/c.txt").stdout
    assert shown == "c"
    # Migration: by name, from one volume to the other.
    (old,) = run("volume", "ls", "-q").stdout.split()
    run("volume", "create", "moved")
    copied = ["-v", f"{old}:/from:ro", "-v", "moved:/to", "ubuntu", "cp", "-a", "/from/.", "/to"]
    run("run", "--rm", *copied)
    eventually(lambda: run("volume", "ls", "-q").stdout.split() == sorted([old, "moved"]))
    assert run("run", "--rm", "-v", "moved:/m", "ubuntu", "ls", "/m").stdout == "c.txt\nd.txt\n"


# --- the commands of today ------------------------------------------------------------------------


def test_volume_commands_print_what_docker_prints(run: Run, tmp_path: Path) -> None:
    assert run("volume", "create", "one").stdout == "one\n"
    label = ["--label", "a=b", "-o", "type=tmpfs", "-o", "device=tmpfs", "two"]
    assert run("volume", "create", *label).stdout == "two\n"
    assert run("volume", "ls").stdout == "DRIVER    VOLUME NAME\nlocal     one\nlocal     two\n"
    assert run("volume", "ls", "-q", "-f", "label=a").stdout == "two\n"
    assert run("volume", "ls", "--format", "{{.Name}} {{.Labels}}").stdout == "one \ntwo a=b\n"
    lines = run("volume", "ls", "--format", "json").stdout.splitlines()
    assert json.loads(lines[1])["Name"] == "two"
    (shown,) = json.loads(run("volume", "inspect", "two").stdout)
    assert shown["Options"] == {"device": "tmpfs", "type": "tmpfs"}
    assert list(shown) == [
        *("CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope")
    ]
    failed = run("volume", "inspect", "nothing", fails=True)
    assert failed.stdout == "[]\n"
    assert "get nothing: no such volume" in failed.stderr
    assert run("volume", "rm", "-f", "nothing").stdout == "nothing\n"
    pruned = run("volume", "prune", "-f").stdout
    assert pruned == "Total reclaimed space: 0B\n"
    pruned = run("volume", "prune", "-a", "-f").stdout
    assert pruned == "Deleted Volumes:\none\n\nTotal reclaimed space: 0B\n"
    assert run("volume", "rm", "two").stdout == "two\n"


def test_all_that_mount_can_say(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x\n")
    mounts = [
        f"type=bind,src={tmp_path},dst=/bind,readonly,bind-propagation=private",
        f"type=bind,src={tmp_path}/file,dst=/plain,bind-recursive=disabled",
        "type=volume,src=named,dst=/volume,volume-nocopy,volume-label=a=b",
        "type=volume,dst=/anonymous",
        "type=tmpfs,dst=/tmpfs,tmpfs-size=64k,tmpfs-mode=1770",
        "type=image,src=busybox,dst=/image,image-subpath=bin",
    ]
    flags = [word for mount in mounts for word in ("--mount", mount)]
    command = "ls /bind; cat /plain; stat -c %a /tmpfs; ls /image/busybox; touch /bind/x"
    shown = run("run", "--name", "all", *flags, "ubuntu", "sh", "-c", command, fails=True)
    assert shown.stdout == "file\nx\n1770\n/image/busybox\n"
    assert "Read-only file system" in shown.stderr
    kinds = run("inspect", "-f", "{{range .Mounts}}{{.Type}} {{end}}", "all").stdout.split()
    assert sorted(kinds) == ["bind", "bind", "image", "tmpfs", "volume", "volume"]
    assert run("volume", "inspect", "-f", "{{.Labels}}", "named").stdout == "map[a:b]\n"
