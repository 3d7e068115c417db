"""Old versions of the API get answers in their shape."""

from __future__ import annotations

import pytest

from sampan.api.versions import NEWEST, OLDEST, negotiate, shaped
from sampan.errors import InvalidArgument
from sampan.spec.docker.images import ImageInspect, ImageSummary
from sampan.spec.docker.networks import EndpointSettings
from sampan.spec.docker.system import Runtime, SystemInfo


@pytest.mark.parametrize("text", ["1.24", "1.41", "1.51", "1.43.0"])
def test_served_versions_are_accepted(text: str) -> None:
    assert negotiate(text) >= OLDEST


@pytest.mark.parametrize("text", ["1.23", "1.0", "0.9", ".", "1"])
def test_a_version_that_is_too_old_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        negotiate(text)
    assert str(refused.value) == (
        f"client version {text} is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )


@pytest.mark.parametrize("text", ["1.52", "2.0", "1.100", "99999999"])
def test_a_version_that_is_too_new_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        negotiate(text)
    expected = f"client version {text} is too new. Maximum supported API version is 1.51"
    assert str(refused.value) == expected


def test_a_version_of_a_thousand_digits_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        negotiate("1" * 5000)


def test_the_newest_version_is_passed_through() -> None:
    summary = ImageSummary(id="sha256:1")
    assert shaped("ImageSummary", [summary], NEWEST) == [summary]


def test_images_had_a_virtual_size_before_1_44() -> None:
    (old,) = shaped("ImageSummary", [ImageSummary(id="sha256:1", size=7)], (1, 43))
    (new,) = shaped("ImageSummary", [ImageSummary(id="sha256:1", size=7)], (1, 44))
    assert old["VirtualSize"] == 7
    assert "VirtualSize" not in new


def test_untagged_images_had_names_before_1_43() -> None:
    (old,) = shaped("ImageSummary", [ImageSummary(id="sha256:1")], (1, 42))
    assert old["RepoTags"] == ["<none>:<none>"]
    assert old["RepoDigests"] == ["<none>@<none>"]


def test_the_image_config_had_all_fields_before_1_50() -> None:
    image = ImageInspect(id="sha256:1", config={"Cmd": ["sh"]})
    old = shaped("ImageInspect", image, (1, 49))
    assert old["Config"]["Cmd"] == ["sh"]
    assert old["Config"]["Hostname"] == ""


def test_aliases_had_the_short_id_and_the_host_name_before_1_45() -> None:
    def inspected() -> dict[str, object]:
        return {
            "Id": "a" * 64,
            "Config": {"Hostname": "box"},
            "NetworkSettings": {
                "Networks": {
                    "mine": {"Aliases": ["web"]},
                    "bridge": {"Aliases": None},
                }
            },
        }

    networks = shaped("ContainerInspect", inspected(), (1, 44))["NetworkSettings"]["Networks"]
    assert networks["mine"]["Aliases"] == ["web", "a" * 12, "box"]
    assert networks["bridge"]["Aliases"] is None


def test_endpoints_lose_what_was_not_there_yet() -> None:
    container = {
        "NetworkSettings": {"Networks": {"bridge": EndpointSettings(dns_names=["a"])}},
    }
    old = shaped("ContainerInspect", container, (1, 43))
    endpoint = old["NetworkSettings"]["Networks"]["bridge"]
    assert "DNSNames" not in endpoint
    assert "GwPriority" not in endpoint


def test_info_had_more_fields_before() -> None:
    info = SystemInfo(id="x", runtimes={"sampan": Runtime(path="r", status={})})
    old = shaped("SystemInfo", info, (1, 40))
    assert old["BridgeNfIptables"] is False
    assert old["RuncCommit"]["Expected"] == ""
    assert old["Runtimes"]["sampan"] == {"path": "r"}
    assert shaped("SystemInfo", info, (1, 50)) is info
