"""docker-py as it is, against our daemon: what its own integration tests look at, in short."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.daemon import Daemon
from tests.session import eventually

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.compat,
    pytest.mark.slow,
    # docker-py leaves hijacked sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Collect those sockets here, where nobody minds, and not in another module's tests."""
    yield
    gc.collect()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="auto", timeout=60)
    yield client
    client.close()


def archive(**files: bytes) -> bytes:
    """Return a tar of small files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_run_returns_what_the_container_printed(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"]) == b"hello\n"
    assert client.containers.run("busybox", "echo shell words") == b"shell words\n"


def test_run_raises_what_the_container_complained_about(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo wrong >&2; exit 3"], stderr=True)
    assert failed.value.exit_status == 3
    assert failed.value.stderr == b"wrong\n"


def test_a_missing_image_is_image_not_found(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("no/such-image", "true")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no/such-image")


def test_a_missing_container_is_not_found(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.NotFound, match="No such container: ghost"):
        client.containers.get("ghost")


def test_the_life_of_a_container(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sleep", "1000"], name="living")
    assert container.status == "created"
    for verb, status in [
        ("start", "running"),
        ("pause", "paused"),
        ("unpause", "running"),
        ("restart", "running"),
        ("kill", "exited"),
        ("start", "running"),
        ("stop", "exited"),
    ]:
        getattr(container, verb)(**({"timeout": 0} if verb in ("stop", "restart") else {}))
        container.reload()
        assert container.status == status, verb
    assert container.wait()["StatusCode"] == 137
    container.rename("renamed")
    container.reload()
    assert container.name == "renamed"
    container.remove()
    assert client.containers.list(all=True) == []


def test_names_are_taken_once(client: docker.DockerClient) -> None:
    client.containers.create("busybox", "true", name="single")
    with pytest.raises(docker.errors.APIError, match=r'The container name "/single" is already'):
        client.containers.create("busybox", "true", name="single")


def test_logs_by_stream_tail_and_follow(client: docker.DockerClient) -> None:
    script = "echo one; echo two >&2; echo three; sleep 1; echo four"
    container = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    followed = b"".join(container.logs(stream=True, follow=True))
    assert sorted(followed.splitlines()) == [b"four", b"one", b"three", b"two"]
    assert container.logs(stdout=True, stderr=False) == b"one\nthree\nfour\n"
    assert container.logs(stdout=False, stderr=True) == b"two\n"
    assert container.logs(tail=1) == b"four\n"
    assert container.logs(since=int(time.time()) + 100) == b""
    stamped = container.logs(timestamps=True, tail=1).decode()
    assert stamped[4] == "-"
    assert stamped.endswith("Z four\n")


def test_attach_sees_output_from_before_and_after(client: docker.DockerClient) -> None:
    container = client.containers.create(
        "busybox", ["sh", "-c", "echo first; read x; echo got $x"], stdin_open=True
    )
    socket = container.attach_socket(params={"stdin": 1, "stream": 1})
    output = container.attach(stream=True, logs=True)
    container.start()
    socket._sock.sendall(b"word\n")
    assert b"".join(output) == b"first\ngot word\n"
    socket.close()
    output.close()


def test_stdin_ends_when_the_client_closes_its_side(client: docker.DockerClient) -> None:
    created = client.api.create_container("busybox", "wc -c", stdin_open=True)
    client.api.inspect_container(created)
    socket = client.api.attach_socket(created, params={"stdin": 1, "stream": 1, "stdout": 1})
    client.api.start(created)
    socket._sock.sendall(b"x" * 1000)
    socket._sock.shutdown(1)
    received = b""
    if client.api.inspect_container(created)["Config"]["StdinOnce"]:
        while chunk := socket._sock.recv(100):
            received += chunk
        assert received[8:].strip() == b"1000"
    socket.close()


def test_exec_with_output_code_user_environment_and_folder(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    assert container.exec_run("echo hello") == (0, b"hello\n")
    assert container.exec_run(["sh", "-c", "exit 3"]).exit_code == 3
    assert container.exec_run("no-such-program").exit_code == 127  # 126 before Docker 23
    assert container.exec_run("id -u", user="nobody").output == b"65534\n"
    assert container.exec_run("pwd", workdir="/var").output == b"/var\n"
    assert container.exec_run(["sh", "-c", "echo $A"], environment={"A": "b"}).output == b"b\n"
    out, err = container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output
    assert (out, err) == (b"o\n", b"e\n")
    identifier = client.api.exec_create(container.id, "cat", stdin=True)["Id"]
    socket = client.api.exec_start(identifier, socket=True)
    socket._sock.sendall(b"through cat")
    socket._sock.shutdown(1)
    received = b""
    while chunk := socket._sock.recv(100):
        received += chunk
    assert received[8:] == b"through cat"
    assert client.api.exec_inspect(identifier)["ExitCode"] == 0
    socket.close()


def test_copy_in_and_out(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", "cat /var/www/page")
    assert container.put_archive("/var/www", archive(page=b"content"))
    chunks, stat = container.get_archive("/var/www/page")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        member = tar.extractfile("page")
        assert member
        assert member.read() == b"content"
    assert (stat["name"], stat["size"]) == ("page", 7)
    container.start()
    container.wait()
    assert container.logs() == b"content"
    assert container.diff() == [
        {"Path": "/var", "Kind": 0},
        {"Path": "/var/www", "Kind": 0},
        {"Path": "/var/www/page", "Kind": 1},
    ]


def test_commit_export_and_import(client: docker.DockerClient, tmp_path: Path) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo kept > /kept"], detach=True, environment=["A=1"]
    )
    container.wait()
    image = container.commit("committed", "v1", message="why", changes=["CMD cat /kept"])
    assert client.containers.run("committed:v1") == b"kept\n"
    assert "A=1" in image.attrs["Config"]["Env"]
    assert client.api.history("committed:v1")[0]["Comment"] == "why"
    exported = tmp_path / "root.tar"
    exported.write_bytes(b"".join(container.export()))
    client.api.import_image_from_file(str(exported), "imported", "v2")
    assert client.containers.run("imported:v2", "cat /kept", remove=True) == b"kept\n"
    for name in ("committed:v1", "imported:v2"):
        client.images.remove(name, force=True)


def test_save_and_load_keep_id_and_tags(client: docker.DockerClient) -> None:
    image = client.images.get("busybox")
    image.tag("saved/name", "v3")
    saved = b"".join(client.images.get("saved/name:v3").save(named="saved/name:v3"))
    client.images.remove("saved/name:v3")
    [loaded] = client.images.load(saved)
    assert loaded.id == image.id
    assert "saved/name:v3" in client.images.get(image.id).tags
    client.images.remove("saved/name:v3")


def test_an_image_in_use_is_not_removed(client: docker.DockerClient) -> None:
    client.images.get("busybox").tag("in/use")
    client.containers.create("in/use", "true")
    with pytest.raises(docker.errors.APIError) as refused:
        client.api.remove_image(client.images.get("in/use").id)
    assert refused.value.status_code == 409
    client.images.remove("in/use")


def test_resources_and_limits_reach_the_kernel(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox",
        ["sleep", "1000"],
        detach=True,
        mem_limit="64m",
        pids_limit=50,
        cpu_shares=512,
        cap_drop=["ALL"],
        read_only=True,
        tmpfs={"/scratch": "size=1m"},
        hostname="named",
        sysctls={"net.ipv4.ip_forward": "0"},
        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)],
        security_opt=["no-new-privileges"],
    )
    assert container.exec_run("hostname").output == b"named\n"
    status = container.exec_run("cat /proc/1/status").output.decode()
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert container.exec_run("touch /file").exit_code == 1
    assert container.exec_run("touch /scratch/file").exit_code == 0
    limits = container.exec_run("cat /proc/1/limits").output.decode()
    assert [line.split()[3:5] for line in limits.splitlines() if "open files" in line] == [
        ["100", "200"]
    ]
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 64 << 20
    assert stats["pids_stats"]["current"] >= 1
    assert "eth0" in stats["networks"]
    container.update(mem_limit="32m", memswap_limit="64m")
    assert container.stats(stream=False)["memory_stats"]["limit"] == 32 << 20
    assert container.top()["Processes"][0][-1] == "sleep 1000"


def test_published_ports_answer(client: docker.DockerClient, daemon: Daemon) -> None:
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "echo page > /var/www/index.html; exec httpd -f -h /var/www"],
        detach=True,
        ports={"80/tcp": None},
    )
    container.reload()
    port = container.ports["80/tcp"][0]["HostPort"]

    def fetch(address: str) -> bytes:
        return subprocess.run(
            [*daemon.enter, "curl", "-s", "--noproxy", "*", f"http://{address}:{port}/"],
            capture_output=True,
            check=False,
        ).stdout

    eventually(lambda: fetch("127.0.0.1") == b"page\n")
    settings = container.attrs["NetworkSettings"]["Networks"]["bridge"]
    assert fetch(settings["Gateway"]) == b"page\n"
    other = client.containers.run(
        "busybox", ["wget", "-qO-", f"http://{settings['IPAddress']}/"], remove=True
    )
    assert other == b"page\n"


def test_network_modes(client: docker.DockerClient, daemon: Daemon) -> None:
    def links(**options: Any) -> set[str]:
        output: bytes = client.containers.run(
            "busybox", "ls /sys/class/net", remove=True, **options
        )
        return set(output.decode().split())

    assert links(network_mode="none") == {"lo"}
    assert links() == {"lo", "eth0"}
    first = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    same = client.containers.run(
        "busybox", "readlink /proc/self/ns/net", network_mode=f"container:{first.id}", remove=True
    )
    assert same == first.exec_run("readlink /proc/1/ns/net").output
    host = client.containers.run(
        "busybox", "readlink /proc/self/ns/net", network_mode="host", remove=True
    )
    assert host.decode().strip() == f"net:[{os.stat(f'/run/netns/{daemon.namespace}').st_ino}]"


def test_events_tell_a_life_in_order(client: docker.DockerClient) -> None:
    began = int(time.time()) - 1
    container = client.containers.run("busybox", ["sh", "-c", "exit 4"], detach=True)
    container.wait()
    container.remove()
    events = client.events(
        since=began, until=int(time.time()) + 1, filters={"container": container.id}, decode=True
    )
    seen = [(event["Type"], event["Action"]) for event in events if event["Type"] == "container"]
    assert seen == [("container", action) for action in ("create", "start", "die", "destroy")]


def test_live_events_arrive(client: docker.DockerClient) -> None:
    stream = client.events(filters={"event": "die"}, decode=True)
    runner = threading.Thread(target=client.containers.run, args=("busybox", "true"))
    runner.start()
    event = next(stream)
    runner.join()  # it still asks for the exit code and the output
    assert event["Action"] == "die"
    assert event["Actor"]["Attributes"]["exitCode"] == "0"
    stream.close()


def test_filters_of_the_list(client: docker.DockerClient) -> None:
    labelled = client.containers.create("busybox", "true", labels={"a": "b"}, name="labelled-one")
    other = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="other-one")

    def ids(**filters: Any) -> set[str]:
        return {c.id for c in client.containers.list(all=True, filters=filters)}

    assert ids(label="a=b") == {labelled.id}
    assert ids(status="running") == {other.id}
    assert ids(name="one") == {labelled.id, other.id}
    assert ids(ancestor="busybox") == {labelled.id, other.id}
    assert ids(id=labelled.id[:12]) == {labelled.id}
    assert ids(before=other.id) == {labelled.id}
    assert ids(since=labelled.id) == {other.id}
    with pytest.raises(docker.errors.APIError):
        ids(nonsense="x")


def test_a_restart_policy_restarts(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "exit 1"],
        detach=True,
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    )

    def ended() -> bool:
        container.reload()
        return bool(container.status == "exited" and container.attrs["RestartCount"] == 2)

    eventually(ended)


def test_a_health_check_makes_healthy(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox",
        ["sleep", "1000"],
        detach=True,
        healthcheck={"test": "true", "interval": 100_000_000, "retries": 1},
    )

    def healthy() -> bool:
        container.reload()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    eventually(healthy)


def test_the_init_process_reaps(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True, init=True)
    assert b"init" in container.exec_run("cat /proc/1/cmdline").output


def test_binds_and_working_folders(client: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    volumes = {str(tmp_path): {"bind": "/data", "mode": "ro"}}
    options: dict[str, Any] = {"volumes": volumes, "working_dir": "/data", "remove": True}
    assert client.containers.run("busybox", "cat file", **options) == b"from the host"
    with pytest.raises(docker.errors.ContainerError, match="Read-only"):
        client.containers.run("busybox", "touch file", **options)


def test_the_daemon_describes_itself(client: docker.DockerClient) -> None:
    assert client.ping() is True
    version = client.version()
    assert version["Os"] == "linux"
    assert [int(part) for part in version["ApiVersion"].split(".")] >= [1, 41]
    info = client.info()
    assert info["OSType"] == "linux"
    assert info["Images"] >= 1
    usage = client.df()
    assert usage["LayersSize"] > 0


def test_prune_removes_what_has_ended(client: docker.DockerClient) -> None:
    ended = client.containers.run("busybox", "true", detach=True)
    ended.wait()
    running = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    for before in ("0", "1h"):
        assert not client.containers.prune({"until": before})["ContainersDeleted"]
    assert client.containers.prune()["ContainersDeleted"] == [ended.id]
    assert [c.id for c in client.containers.list(all=True)] == [running.id]


def test_a_connection_serves_on_after_a_request_that_was_watched(
    client: docker.DockerClient,
) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    for _ in range(2):  # one connection, kept alive
        assert container.stats(stream=False)["name"] == f"/{container.name}"


def test_a_log_that_is_followed_outlives_its_container(client: docker.DockerClient) -> None:
    for _ in range(20):
        container = client.containers.run("busybox", ["echo", "hello"], detach=True)
        log = container.logs(stream=True, follow=True)
        container.wait()
        container.remove()
        assert b"".join(log) == b"hello\n"


def test_an_exec_with_a_terminal_comes_in_frames_if_its_start_asks_for_them(
    client: docker.DockerClient,
) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    exec_ = client.api.exec_create(container.id, ["echo", "framed"], tty=True)
    assert client.api.exec_start(exec_, demux=True) == (b"framed\r\n", None)
    exec_ = client.api.exec_create(container.id, ["echo", "plain"])
    assert client.api.exec_start(exec_, tty=True) == b"plain\n"


def test_attach_to_the_log_of_what_has_ended_loses_nothing(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["echo", "hello"], detach=True)
    container.wait()
    for _ in range(20):
        assert container.attach(stream=False, logs=True) == b"hello\n"


def test_commit_of_a_container_that_is_just_ending(client: docker.DockerClient) -> None:
    for _ in range(10):
        container = client.containers.run("busybox", ["touch", "/made"], detach=True)
        image = container.commit()
        container.remove(force=True)
        client.images.remove(image.id)


def test_log_drivers_are_checked_when_a_container_is_made(client: docker.DockerClient) -> None:
    config = docker.types.LogConfig(type="nosuch")
    with pytest.raises(docker.errors.APIError, match="no log driver named 'nosuch' is registered"):
        client.containers.create("busybox", "true", log_config=config)
    assert client.containers.list(all=True) == []


def test_the_runtime_is_the_one_that_was_asked_for(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", "true", runtime="runc")
    assert container.attrs["HostConfig"]["Runtime"] == "runc"


def test_links_name_containers_in_hosts_and_environment(client: docker.DockerClient) -> None:
    there = client.containers.run(
        "busybox", ["sleep", "1000"], name="there", environment={"FOO": "1"}, detach=True
    )
    here = client.containers.run(
        "busybox",
        ["sh", "-c", "env; ping -c1 -W5 alias; sleep 1000"],
        name="here",
        links={"there": "alias"},
        detach=True,
    )
    eventually(lambda: b"1 packets received" in here.logs())
    assert b"ALIAS_NAME=/here/alias" in here.logs()
    assert b"ALIAS_ENV_FOO=1" in here.logs()
    assert here.attrs["HostConfig"]["Links"] == ["/there:/here/alias"]
    assert client.containers.get("here/alias").id == there.id
    names = {it["Id"]: it["Names"] for it in client.api.containers()}
    assert names[there.id] == ["/there", "/here/alias"]
    client.api.remove_container("here/alias", link=True)
    assert len(client.containers.list()) == 2
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("here/alias")


def test_a_link_to_nothing_is_a_bad_request(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.APIError, match="could not get container for ghost") as failed:
        client.containers.create("busybox", "true", links={"ghost": "x"})
    assert failed.value.status_code == 400  # 404 would mean the image


def test_copies_reach_the_mounts_of_a_container_at_rest(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    container = client.containers.create(
        "busybox",
        ["cat", "/vol/file", "/bound/file"],
        volumes=["/vol", f"{tmp_path}:/bound"],
    )
    for folder in ("/vol", "/bound"):
        assert container.put_archive(folder, archive(file=folder.encode() + b"\n"))
    assert (tmp_path / "file").read_bytes() == b"/bound\n"
    container.start()
    container.wait()
    assert container.logs() == b"/vol\n/bound\n"
    stream, stat = container.get_archive("/vol")
    assert stat["name"] == "vol"
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.getnames() == ["vol", "vol/file"]


def test_a_new_volume_has_what_the_image_has_there(client: docker.DockerClient) -> None:
    listed = client.containers.run("busybox", ["ls", "/etc"], volumes=["/etc"], remove=True)
    assert b"passwd\n" in listed
    mode = client.containers.run("busybox", ["stat", "-c%a", "/tmp"], volumes=["/tmp"], remove=True)
    assert mode == b"1777\n"


def test_anybody_may_write_to_a_tmpfs_in_a_new_place(client: docker.DockerClient) -> None:
    script = "touch /new/place/file; stat -c%a /new /new/place"
    modes = client.containers.run(
        "busybox", ["sh", "-c", script], tmpfs={"/new/place": ""}, user="1000", remove=True
    )
    assert modes == b"755\n1777\n"


def test_containers_are_found_by_their_published_port(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox", ["sleep", "1000"], ports={"80/tcp": None}, detach=True
    )
    container.reload()
    port = container.ports["80/tcp"][0]["HostPort"]
    assert client.containers.list(filters={"publish": port}) == [container]
    assert client.containers.list(filters={"publish": "80"}) == []
    assert client.containers.list(filters={"expose": "80"}) == [container]


@pytest.mark.parametrize("field", ["network_mode", "pid_mode", "ipc_mode"])
def test_a_namespace_of_a_container_that_is_not_there_is_a_bad_request(
    field: str, client: docker.DockerClient
) -> None:
    with pytest.raises(docker.errors.APIError, match="No such container: ghost") as failed:
        client.containers.create("busybox", "true", **{field: "container:ghost"})
    assert failed.value.status_code == 400  # 404 would mean the image


def test_the_sandbox_key_opens_the_network_namespace(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    container.reload()
    key = container.attrs["NetworkSettings"]["SandboxKey"]
    assert os.readlink(key) == os.readlink(f"/proc/{container.attrs['State']['Pid']}/ns/net")


def test_a_memory_limit_above_that_of_memory_and_swap_is_refused(
    client: docker.DockerClient,
) -> None:
    container = client.containers.create("busybox", "true", mem_limit="32m", memswap_limit="64m")
    with pytest.raises(docker.errors.APIError, match="update the memoryswap at the same time"):
        container.update(mem_limit="128m")
    container.update(mem_limit="128m", memswap_limit="128m")
    container.reload()
    assert container.attrs["HostConfig"]["MemorySwap"] == 128 << 20
