"""A hostile container in a range of its own: what it cannot reach, and what it cannot leave."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


def sampan(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    command = [daemon.programs["sampan"], *words]
    return subprocess.run(
        command, env=daemon.environment, capture_output=True, text=True, check=False
    )


def run(daemon: Daemon, script: str, *options: str) -> str:
    """Run a script in a container of its own range; return all that it prints."""
    done = sampan(daemon, "run", "--rm", "--userns=auto", *options, "busybox", "sh", "-c", script)
    return done.stdout + done.stderr


def inspect(daemon: Daemon, name: str) -> Any:
    return daemon.request("GET", f"/containers/{name}/json").json


def victim(daemon: Daemon) -> Path:
    """Start a container with a secret of its root; return its writable layer on the host."""
    script = "umask 077; echo secret >/secret; cp /bin/busybox /su; chmod 4755 /su; exec sleep 1000"
    sampan(
        *(daemon, "run", "-d", "--userns=auto", "--name", "victim", "busybox"),
        *("sh", "-c", script),
    )
    upper = Path(inspect(daemon, "victim")["GraphDriver"]["Data"]["UpperDir"])
    eventually(lambda: (upper / "su").exists() and (upper / "su").stat().st_mode & 0o4000)
    return upper


def test_the_layer_of_another_container_is_nobodys(daemon: Daemon) -> None:
    upper = victim(daemon)
    told = run(daemon, "stat -c %u /its/secret; cat /its/secret", "-v", f"{upper}:/its")
    assert told.startswith("65534\n")
    assert "Permission denied" in told
    assert "\nsecret\n" not in told
    # Nor can it be written, whoever the attacker makes itself.
    run(
        daemon,
        "chmod 777 /its/secret; chown 0 /its/secret; rm -f /its/secret",
        "-v",
        f"{upper}:/its",
    )
    assert (upper / "secret").stat().st_mode & 0o777 == 0o600


def test_a_set_user_id_file_of_a_container_is_out_of_reach_of_users_of_the_host(
    daemon: Daemon,
) -> None:
    program = victim(daemon) / "su"
    assert (program.stat().st_uid, program.stat().st_mode & 0o4000) == (0, 0o4000)
    with pytest.raises(PermissionError):
        subprocess.run([program, "id"], user=65534, group=65534, extra_groups=[], check=False)


def test_a_copy_into_a_container_can_do_no_more_than_its_root(
    daemon: Daemon, tmp_path: Path
) -> None:
    host = tmp_path / "of-the-host"
    host.mkdir()
    (tmp_path / "file").write_text("x")
    script = "ln -s /bind /root/link; exec sleep 1000"
    sampan(
        *(daemon, "run", "-d", "--userns=auto", "--name", "mine", "-v", f"{host}:/bind"),
        *("busybox", "sh", "-c", script),
    )
    for target in ("/bind/file", "/root/link/file"):
        done = sampan(daemon, "cp", str(tmp_path / "file"), f"mine:{target}")
        assert done.returncode == 1, target
    assert list(host.iterdir()) == []
    assert sampan(daemon, "cp", str(tmp_path / "file"), "mine:/root/file").returncode == 0


def test_root_of_a_range_cannot_change_who_it_is_on_the_host(daemon: Daemon) -> None:
    script = (
        "exec 2>&1; echo '0 0 4294967295' >/proc/self/uid_map; "
        " unshare -U id -u; cat /proc/1/uid_map"
    )
    told = run(daemon, script, "--cap-add=ALL", "--security-opt=seccomp=unconfined").splitlines()
    assert told[0].endswith("Operation not permitted")
    assert told[1] == "65534"  # in a namespace without maps it is nobody at all
    inside, first, size = map(int, told[2].split())
    assert (inside, size) == (0, 65536)
    assert first >= 1 << 30
