"""Docker's configuration becomes an OCI specification."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine.containers.container import Record
from sampan.engine.oci.specification import INIT_INSIDE, INIT_PATHS, Specifications, environment
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Config, DeviceMapping, HostConfig, LogConfig, Ulimit
from sampan.spec.docker.exec import ExecCreateRequest
from sampan.spec.runtime import Mount, Spec
from tests.unit.engine.fakes import container


def spec_of(host: HostConfig | None = None, config: Config | None = None) -> Spec:
    return Specifications(Path("/data")).container_spec(record_of(host, config))


def record_of(host: HostConfig | None = None, config: Config | None = None) -> Record:
    return container(config, host).record


def mount_at(spec: Spec, destination: str) -> Mount | None:
    return next((each for each in spec.mounts if each.destination == destination), None)


def test_the_program_is_the_record_s_with_docker_s_environment() -> None:
    spec = spec_of(config=Config(hostname="box", env=["A=1", "PATH"], working_dir="/work"))
    assert spec.process
    assert spec.process.args == ["sh", "-c", "true"]
    assert spec.process.cwd == "/work"
    assert spec.process.env == ["HOSTNAME=box", "A=1"]
    assert spec.hostname == "box"


def test_a_terminal_sets_term_and_the_user_wins() -> None:
    record = record_of(config=Config(env=["TERM=vt100"]))
    assert "TERM=vt100" in environment(record, terminal=True)
    assert "TERM=xterm" in environment(record_of(), terminal=True)


def test_namespaces_of_the_host_are_left_out() -> None:
    host = HostConfig(network_mode="host", pid_mode="host", ipc_mode="host", uts_mode="host")
    spec = spec_of(host)
    assert spec.linux
    assert [each.type for each in spec.linux.namespaces] == ["mount"]
    assert not spec.hostname
    assert not spec.linux.sysctl
    shm = mount_at(spec, "/dev/shm")
    assert shm
    assert shm.type == "bind"


def test_a_private_container_has_all_namespaces_and_may_ping_and_bind_low_ports() -> None:
    spec = spec_of(HostConfig(cgroupns_mode="private"))
    assert spec.linux
    kinds = {each.type for each in spec.linux.namespaces}
    assert kinds == {"mount", "network", "uts", "pid", "ipc", "cgroup"}
    assert spec.linux.sysctl["net.ipv4.ip_unprivileged_port_start"] == "0"
    assert spec.linux.seccomp
    assert "/proc/kcore" in spec.linux.masked_paths


def test_a_privileged_container_sees_everything() -> None:
    spec = spec_of(HostConfig(privileged=True))
    assert spec.linux
    assert spec.linux.seccomp is None
    assert not spec.linux.masked_paths
    assert not spec.linux.readonly_paths
    assert spec.linux.resources
    assert [(rule.allow, rule.type) for rule in spec.linux.resources.devices] == [(True, "a")]
    assert any(node.path == "/dev/null" for node in spec.linux.devices)
    sys, cgroup = mount_at(spec, "/sys"), mount_at(spec, "/sys/fs/cgroup")
    assert sys
    assert cgroup
    assert "ro" not in sys.options + cgroup.options


def test_empty_lists_of_paths_mask_nothing() -> None:
    spec = spec_of(HostConfig(masked_paths=[], readonly_paths=[]))
    assert spec.linux
    assert spec.linux.masked_paths == spec.linux.readonly_paths == []


def test_limits_reach_the_cgroup() -> None:
    host = HostConfig(memory=64 << 20, memory_swap=-1, nano_cpus=1_500_000_000, pids_limit=0)
    spec = spec_of(host)
    assert spec.linux
    resources = spec.linux.resources
    assert resources
    assert resources.memory
    assert (resources.memory.limit, resources.memory.swap) == (64 << 20, -1)
    assert resources.cpu
    assert (resources.cpu.period, resources.cpu.quota) == (100_000, 150_000)
    assert resources.pids
    assert resources.pids.limit == -1


def test_ulimits_of_the_container_replace_those_of_the_daemon() -> None:
    specifications = Specifications(
        Path("/data"),
        {"nofile": Ulimit(name="nofile", soft=1, hard=2), "core": Ulimit(name="core")},
    )
    host = HostConfig(ulimits=[Ulimit(name="nofile", soft=10, hard=20)])
    process = specifications.container_spec(record_of(host)).process
    assert process
    limits = {limit.type: (limit.soft, limit.hard) for limit in process.rlimits}
    assert limits == {"RLIMIT_NOFILE": (10, 20), "RLIMIT_CORE": (0, 0)}


def test_a_device_gets_a_node_and_a_rule() -> None:
    device = DeviceMapping(
        path_on_host="/dev/null", path_in_container="/dev/nothing", cgroup_permissions="r"
    )
    spec = spec_of(HostConfig(devices=[device]))
    assert spec.linux
    assert [node.path for node in spec.linux.devices] == ["/dev/nothing"]
    assert spec.linux.resources
    last = spec.linux.resources.devices[-1]
    assert (last.allow, last.major, last.minor, last.access) == (True, 1, 3, "r")


def test_a_missing_device_is_refused_in_docker_s_words() -> None:
    with pytest.raises(InvalidArgument, match="error gathering device information"):
        spec_of(HostConfig(devices=[DeviceMapping(path_on_host="/dev/no-such")]))


def test_the_files_under_etc_are_those_of_the_container_whose_network_it_joins() -> None:
    record = record_of()
    spec = Specifications(Path("/data")).container_spec(record, files_of="2" * 64)
    hosts = mount_at(spec, "/etc/hosts")
    assert hosts
    assert hosts.source == f"/data/containers/{'2' * 64}/hosts"


def test_deeper_mounts_come_later_and_replace_defaults() -> None:
    host = HostConfig(tmpfs={"/a/b/c": "", "/a": "size=1m", "/dev/shm": "size=2m"})
    spec = spec_of(host)
    order = [mount.destination for mount in spec.mounts]
    assert order.index("/a") < order.index("/a/b/c")
    assert order.count("/dev/shm") == 1


def test_a_read_only_root_leaves_the_pseudo_file_systems_writable() -> None:
    spec = spec_of(HostConfig(readonly_rootfs=True))
    assert spec.root
    assert spec.root.readonly
    dev, hosts = mount_at(spec, "/dev"), mount_at(spec, "/etc/hosts")
    assert dev
    assert hosts
    assert "ro" not in dev.options
    assert "ro" in hosts.options


@pytest.mark.skipif(not any(Path(path).exists() for path in INIT_PATHS), reason="needs tini")
def test_init_is_put_in_front_of_the_program() -> None:
    spec = spec_of(HostConfig(init=True))
    assert spec.process
    assert spec.process.args == [INIT_INSIDE, "--", "sh", "-c", "true"]
    assert mount_at(spec, INIT_INSIDE)


def test_an_exec_inherits_but_for_what_it_says() -> None:
    record = record_of(config=Config(env=["A=1"], working_dir="/work"))
    request = ExecCreateRequest(cmd=["ls"], env=["A=2", "B=3"], privileged=True, tty=True)
    process = Specifications(Path("/data")).exec_process(record, request)
    assert process.args == ["ls"]
    assert process.cwd == "/work"
    assert {"A=2", "B=3", "TERM=xterm"} <= set(process.env)
    assert process.capabilities
    assert "CAP_SYS_ADMIN" in process.capabilities.bounding


def test_the_log_s_tag_is_filled_in() -> None:
    options = {"tag": "{{.Name}}/{{ .ID }}", "labels": "team"}
    host = HostConfig(log_config=LogConfig(type="json-file", config=options))
    record = record_of(host, Config(labels={"team": "blue", "other": "x"}))
    streams = Specifications(Path("/data")).streams(record)
    assert streams.log_attributes == {"team": "blue", "tag": f"tested/{record.id[:12]}"}


def test_the_number_of_open_files_is_never_inherited() -> None:
    process = spec_of().process
    assert process
    (limit,) = process.rlimits
    assert limit.type == "RLIMIT_NOFILE"
    assert limit.soft <= 1024
    assert limit.soft <= limit.hard <= 524288
