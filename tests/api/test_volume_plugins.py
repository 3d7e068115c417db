"""Volume plug-ins as processes of their own, beside a real daemon; honest ones and others."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.session import eventually
from tests.volume_box import Box
from tests.volume_plugin import Plugin, volume_plugin

pytestmark = pytest.mark.privileged


@pytest.fixture
def box(daemon: Daemon, plugin: Plugin) -> Iterator[Box]:
    found = Box(daemon)
    yield found
    plugin.fail()
    if plugin.process is None or plugin.process.poll() is not None:
        plugin.start()
    found.clear()


@pytest.fixture
def plugin(shared_daemon: Daemon, tmp_path: Path) -> Iterator[Plugin]:
    """Run the plug-in `shelf`; the daemon looks for it in its own folder first."""
    socket = shared_daemon.folder / "exec/plugins/shelf.sock"
    with volume_plugin(socket, tmp_path / "plugin") as running:
        yield running


def test_a_volume_of_a_plugin_works_like_any_other(box: Box, plugin: Plugin) -> None:
    box.volume("far", "shelf", depth="2")
    place = plugin.folder / "volumes/far"
    assert box.run("echo x > /v/x; ls /v", Binds=["far:/v"]) == "x\n"
    assert (place / "x").read_text() == "x\n"
    assert box.run("cat /v/x", Binds=["far:/v:ro"], VolumeDriver="shelf") == "x\n"
    shown = box.daemon.request("GET", "/volumes/far").json
    assert (shown["Driver"], shown["Scope"], shown["Status"]) == ("shelf", "global", {"shelf": 3})
    assert (shown["Mountpoint"], shown["Options"]) == (str(place), {"depth": "2"})
    mount = box.mounts(box.last)["/v"]
    assert (mount["Driver"], mount["Source"], mount["Mode"]) == ("shelf", str(place), "ro")
    assert b"x\n" in box.get(box.last, "/v").values()
    eventually(lambda: len(plugin.calls("Unmount")) == len(plugin.calls("Mount")) >= 3)
    assert plugin.calls("Create")[0] == ("Create", {"Name": "far", "Opts": {"depth": "2"}})
    mounted = [body["ID"] for _, body in plugin.calls("Mount")]
    assert sorted(mounted) == sorted(body["ID"] for _, body in plugin.calls("Unmount"))
    assert "shelf" in box.daemon.request("GET", "/info").json["Plugins"]["Volume"]


def test_a_new_volume_of_a_plugin_gets_the_image_s_content_at_its_first_start(
    box: Box, plugin: Plugin
) -> None:
    container = box.made("true", Binds=["far:/bin"], VolumeDriver="shelf")
    assert os.listdir(plugin.folder / "volumes/far") == []
    assert box.start(container).status == 204
    box.output(container)
    assert (plugin.folder / "volumes/far/busybox").exists()
    box.remove(container)
    box.daemon.request("DELETE", "/volumes/far")
    assert not (plugin.folder / "volumes/far").exists()


def test_a_list_has_what_only_the_plugin_knows(box: Box, plugin: Plugin) -> None:
    box.volume("far", "shelf")
    (plugin.folder / "volumes/foreign").mkdir()
    assert box.volumes(driver=["shelf"]) == ["far", "foreign"]
    assert box.daemon.request("GET", "/volumes/foreign").json["Driver"] == "shelf"
    assert box.run("ls -d /v", Binds=["foreign:/v"], VolumeDriver="shelf") == "/v\n"
    assert box.daemon.request("POST", "/volumes/prune?filters={}").json["VolumesDeleted"] == []


@pytest.mark.parametrize(
    "place", ["/", "/proc/1/root", "../../etc", "/dev/shm", "/run/docker", "data"]
)
def test_a_plugin_that_lies_about_the_place_starts_nothing(
    box: Box, plugin: Plugin, place: str
) -> None:
    box.volume("far", "shelf")
    lie = str(box.daemon.data_root) if place == "data" else place
    plugin.fail(Mount=f"at {lie}")
    container = box.made("ls", "/v", Binds=["far:/v"])
    answer = box.start(container)
    assert answer.status == 400
    assert "where no volume is" in answer.json["message"]
    eventually(lambda: plugin.calls("Unmount") == [("Unmount", {"Name": "far", "ID": container})])


def test_a_plugin_whose_place_is_a_link_starts_nothing(box: Box, plugin: Plugin) -> None:
    box.volume("far", "shelf")
    (plugin.folder / "link").symlink_to("/etc")
    for place in (plugin.folder / "link", plugin.folder / "link/ssl"):
        plugin.fail(Mount=f"at {place}")
        answer = box.start(box.made("ls", "/v", Binds=["far:/v"]))
        assert answer.status == 400
        assert "oo many" in answer.json["message"]


def test_what_a_plugin_says_went_wrong_is_passed_on_and_nothing_is_left(
    box: Box, plugin: Plugin
) -> None:
    plugin.fail(Create="err out of shelves")
    with box.unchanged():
        answer = box.create("true", Binds=["near:/n", "far:/v"], VolumeDriver="shelf")
        assert answer.status == 500
        assert "out of shelves" in answer.json["message"]
    plugin.fail(Create="nonsense")
    with box.unchanged():
        assert box.create("true", Binds=["far:/v"], VolumeDriver="shelf").status == 503


def test_a_plugin_that_dies_in_a_call_or_is_dead_is_an_error_of_that_call(
    box: Box, plugin: Plugin
) -> None:
    box.volume("far", "shelf")
    container = box.made("true", Binds=["far:/v"])
    plugin.fail(Mount="die")
    answer = box.start(container)
    assert (answer.status, "did not answer" in answer.json["message"]) == (503, True)
    assert plugin.process
    plugin.process.wait()
    assert box.start(container).status == 503
    listed = box.daemon.request("GET", "/volumes").json
    assert [it["Name"] for it in listed["Volumes"]] == ["far"]
    assert "shelf" in listed["Warnings"][0]
    box.remove(container)
    assert box.daemon.request("DELETE", "/volumes/far").status == 503
    plugin.fail()
    plugin.start()
    assert box.run("ls -d /v", Binds=["far:/v"]) == "/v\n"


def test_a_volume_of_a_plugin_that_is_gone_for_good_is_removed_by_force(
    box: Box, plugin: Plugin
) -> None:
    box.volume("far", "shelf")
    plugin.kill()
    assert box.daemon.request("DELETE", "/volumes/far?force=1").status == 204
    assert box.volumes() == []


def test_a_slow_plugin_holds_up_nobody_else(box: Box, plugin: Plugin) -> None:
    box.volume("far", "shelf")
    plugin.fail(Mount="held")
    container = box.made("true", Binds=["far:/v"])
    starting = threading.Thread(target=box.start, args=(container,))
    starting.start()
    eventually(lambda: plugin.calls("Mount"))
    assert box.run("echo quick", Binds=["near:/n"]) == "quick\n"
    assert not box.inspect(container)["State"]["Running"]
    assert starting.is_alive()
    plugin.fail()
    starting.join()
    assert box.output(container) == ""


def test_a_daemon_that_was_killed_lets_go_of_a_plugin_s_volume_later(
    box: Box, plugin: Plugin
) -> None:
    command = "until test -e /v/go; do sleep 0.02; done"
    container = box.started("sh", "-c", command, Binds=["far:/v"], VolumeDriver="shelf")
    box.daemon.kill()
    (plugin.folder / "volumes/far/go").write_text("")
    box.daemon.start()
    assert box.output(container) == ""
    eventually(lambda: plugin.calls("Unmount") == [("Unmount", {"Name": "far", "ID": container})])
