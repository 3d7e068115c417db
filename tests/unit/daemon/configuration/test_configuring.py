"""daemon.json and flags together, with dockerd's complaints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.daemon.configuration.configuring import load, read_file, reload, tcp_address
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.main import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "daemon.json"


def write(file: Path, document: Any) -> list[str]:
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return [f"--config-file={file}"]


def test_the_defaults_stand_when_nothing_is_given(tmp_path: Path) -> None:
    config = load([])
    assert config["data-root"] == "/var/lib/sampan"
    assert config.hosts == ["unix:///run/sampan/sampan.sock"]
    assert config["live-restore"] is True


def test_the_file_sets_what_the_flags_do_not(file: Path) -> None:
    arguments = write(file, {"debug": True, "labels": ["a=b"], "default-shm-size": "1g"})
    config = load([*arguments, "--mtu", "1400"])
    assert config["debug"] is True
    assert config["label"] == ["a=b"]
    assert config["default-shm-size"] == 1 << 30
    assert config["mtu"] == 1400


def test_an_option_in_both_places_is_a_conflict_with_both_values(file: Path) -> None:
    arguments = write(file, {"debug": False, "hosts": ["unix:///a"]})
    with pytest.raises(UsageError) as refused:
        load([*arguments, "-D", "-H", "unix:///b"])
    assert str(refused.value) == (
        f"unable to configure the daemon with file {file}: the following directives are "
        "specified both as a flag and in the configuration file: "
        "debug: (from flag: true, from file: false), "
        "hosts: (from flag: [unix:///b], from file: [unix:///a])"
    )


def test_an_unknown_directive_is_named(file: Path) -> None:
    with pytest.raises(UsageError) as refused:
        load(write(file, {"frob": 1, "debug": True}))
    assert "the following directives don't match any configuration option: frob" in str(
        refused.value
    )


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        {"debug": "yes"},
        {"mtu": "1400"},
        {"mtu": True},
        {"dns": "1.1.1.1"},
        {"dns": [1]},
        {"log-opts": {"max-size": 1}},
        {"default-shm-size": "x"},
        {"userns-remap": True},
        {"experimental": True},
        {"validate": True},
    ],
)
def test_a_wrong_value_in_the_file_is_refused_with_the_files_name(
    file: Path, document: Any
) -> None:
    with pytest.raises(UsageError) as refused:
        load(write(file, document))
    assert str(refused.value).startswith(f"unable to configure the daemon with file {file}: ")


def test_an_empty_file_is_no_configuration(file: Path) -> None:
    assert load(write(file, " \n"))["debug"] is False


def test_a_named_file_has_to_exist_and_the_default_one_does_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        load([f"--config-file={tmp_path}/nothing"])


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--log-level=loud", "invalid logging level: loud"),
        ("--log-format=xml", "invalid log format: xml"),
        ("--log-driver=syslog", "logger: no log driver named 'syslog' is registered"),
        ("--storage-driver=zfs", "driver not supported: zfs"),
        ("--data-root=relative", "--data-root must be an absolute path: relative"),
        ("--mtu=-1", "invalid default MTU: -1"),
        ("--label=novalue", "bad attribute format: novalue"),
        ("--firewall-backend=ipfw", "invalid firewall-backend: 'ipfw'"),
        ("--userland-proxy", "--userland-proxy=true is not supported: "),
        ("--api-cors-header=*", "--api-cors-header=* is not supported: "),
        ("--host=ssh://x", "invalid bind address format: ssh://x"),
        ("--host=x", "invalid bind address format: x"),
        ("--tlsverify", "invalid TLS configuration: --tlscert is needed"),
    ],
)
def test_a_value_that_cannot_work_is_refused(flag: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        load([flag])
    assert sentence in str(refused.value)


def test_plain_tcp_needs_an_explicit_flag_and_the_error_says_why() -> None:
    with pytest.raises(UsageError, match=r"root on this machine to everyone .* --insecure-tcp"):
        load(["-H", "tcp://0.0.0.0:2375"])
    assert load(["-H", "tcp://0.0.0.0:2375", "--insecure-tcp"]).hosts == ["tcp://0.0.0.0:2375"]


def test_tls_verifies_clients_unless_told_otherwise() -> None:
    files = ["--tlscert=/c", "--tlskey=/k", "--tlscacert=/ca"]
    assert load(["--tlsverify", *files]).verifies_clients
    assert load(["--tls", *files]).verifies_clients
    loose = load(["--tls", "--tlsverify=false", *files])
    assert loose.wants_tls
    assert not loose.verifies_clients


@pytest.mark.parametrize(
    ("host", "tls", "address"),
    [
        ("tcp://1.2.3.4:5", False, ("1.2.3.4", 5)),
        ("tcp://:2375", False, ("127.0.0.1", 2375)),
        ("tcp://1.2.3.4", True, ("1.2.3.4", 2376)),
        ("tcp://[::1]:99", False, ("::1", 99)),
        ("tcp://[::1]", False, ("::1", 2375)),
    ],
)
def test_tcp_addresses_have_defaults(host: str, tls: bool, address: tuple[str, int]) -> None:
    assert tcp_address(host, tls) == address


@pytest.mark.parametrize("host", ["tcp://a:b", "tcp://1.2.3.4:99999", "tcp://a:1:2", "tcp://[x]:1"])
def test_a_broken_tcp_address_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="invalid bind address format"):
        tcp_address(host, False)


def test_a_reload_changes_what_can_change_and_nothing_that_a_flag_set(file: Path) -> None:
    config = load([*write(file, {"labels": ["a=1"]}), "--debug"])
    write(file, {"labels": ["a=2"], "debug": False, "mtu": 1400})
    assert reload(config, read_file(str(file))) == ["label"]
    assert config["label"] == ["a=2"]
    assert config["debug"] is True
    assert config["mtu"] == 0


def test_validate_checks_and_exits(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*write(file, {"debug": True}), "--validate"]) == 0
    assert capsys.readouterr().err == "configuration OK\n"
    assert main([*write(file, {"frob": True}), "--validate"]) == 1
    assert "frob" in capsys.readouterr().err


def test_help_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--data-root" in capsys.readouterr().out
    assert main(["-v"]) == 0
    assert capsys.readouterr().out.startswith("Sampan version ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["debug", "hosts", "dns", "log-opts", "mtu", "labels", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_no_file_raises_anything_but_a_usage_error(file: Path, document: Any) -> None:
    try:
        load(write(file, json.dumps(document)))
    except UsageError:
        pass
