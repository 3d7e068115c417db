"""The daemon's options that confine containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sampan.daemon import confinement
from sampan.daemon.configuration.configuring import load
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.main import main
from sampan.engine.oci.checks import adapt
from sampan.engine.oci.security import Confinement
from sampan.spec.docker.config import HostConfig


@pytest.mark.parametrize(("value", "text"), [("", ""), ("builtin", ""), ("unconfined",) * 2])
def test_profiles_with_a_name_are_not_files(value: str, text: str) -> None:
    assert confinement.seccomp_profile(value) == text


def test_a_profile_is_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    content = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})
    file.write_text(content)
    assert confinement.seccomp_profile(str(file)) == content
    for broken, sentence in (
        (b"{", "Decoding seccomp profile failed"),
        (b'{"defaultAction": "FOO"}', "string FOO is not a valid action"),
        (b"\xff", "invalid start byte"),
    ):
        file.write_bytes(broken)
        with pytest.raises(UsageError, match=sentence):
            confinement.seccomp_profile(str(file))


def test_a_profile_that_is_not_there_is_told_by_validate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--validate", "--seccomp-profile", "/no/such.json"]) == 1
    assert "opening seccomp profile (/no/such.json) failed: open" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--default-ipc-mode=host", "IPC mode 'host' is not supported"),
        ("--default-cgroupns-mode=odd", r"default cgroup namespace mode \('odd'\) is invalid"),
    ],
)
def test_a_mode_that_is_none_is_refused(flag: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        load([flag])


def test_the_modes_of_the_daemon_are_for_containers_that_name_none() -> None:
    defaults = Confinement(ipc_mode="shareable", cgroupns_mode="host")
    host = HostConfig()
    adapt(host, confinement=defaults)
    assert (host.ipc_mode, host.cgroupns_mode) == ("shareable", "host")
    host = HostConfig(ipc_mode="none", cgroupns_mode="private")
    adapt(host, confinement=defaults)
    assert (host.ipc_mode, host.cgroupns_mode) == ("none", "private")


def test_without_apparmor_nothing_is_loaded(tmp_path: Path) -> None:
    assert confinement.load_apparmor(tmp_path) == ""


def test_the_profile_knows_the_files_of_the_host_and_who_stops_containers(tmp_path: Path) -> None:
    (tmp_path / "etc/apparmor.d/abi").mkdir(parents=True)
    (tmp_path / "etc/apparmor.d/abi/3.0").touch()
    (tmp_path / "proc/self/attr").mkdir(parents=True)
    (tmp_path / "proc/self/attr/current").write_text("sampand (enforce)\n")
    text = confinement.text_for(tmp_path)
    assert "abi <abi/3.0>," in text
    assert "@{PROC}=/proc/" in text
    assert 'signal (receive) peer="sampand",' in text


def test_a_parser_that_fails_leaves_containers_without_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sys/module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "sys/module/apparmor/parameters/enabled").write_text("Y\n")
    (tmp_path / "sys/kernel/security/apparmor").mkdir(parents=True)
    parser = tmp_path / "parser"
    monkeypatch.setattr(confinement, "PARSER", str(parser))
    assert confinement.load_apparmor(tmp_path) == ""
    parser.write_text("#!/bin/sh\necho no room; exit 3\n")
    parser.chmod(0o755)
    assert confinement.load_apparmor(tmp_path) == ""
    assert "is not loaded: no room" in caplog.text
    parser.write_text(f"#!/bin/sh\ncat >{tmp_path}/seen\n")
    assert confinement.load_apparmor(tmp_path) == "sampan-default"
    assert 'profile "sampan-default"' in (tmp_path / "seen").read_text()


def test_cve_2024_41110_and_2026_34040_there_is_no_plugin_that_sees_half_a_request() -> None:
    """Plugins for authorization judged requests whose body they had not been given."""
    with pytest.raises(UsageError, match="plugins are not available"):
        load(["--authorization-plugin=x"])
