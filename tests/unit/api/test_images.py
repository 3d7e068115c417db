"""The endpoints about images: which parameters count since which version, and how they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sampan.spec.docker.images import ImageInspect, ImageSummary
from sampan.spec.docker.system import DiskUsage
from sampan.spec.image import Descriptor
from sampan.spec.platform import Platform
from sampan.spec.storage import CheckProblem, CheckReport, StorageItem

With = Callable[[Any], None]
DESCRIPTOR = Descriptor(media_type="x", digest="sha256:" + "0" * 64, size=1)
ARM = '{"os":"linux","architecture":"arm64"}'
AMD = '{"os":"linux","architecture":"amd64"}'


NOTHING = {"all": False, "shared_size": False, "manifests": False}
EVERYTHING = dict.fromkeys(NOTHING, True)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/images/json", NOTHING),
        ("/images/json?all=1&shared-size=1&manifests=1", EVERYTHING),
        ("/v1.46/images/json?manifests=1", NOTHING),
        ("/v1.41/images/json?shared-size=1", NOTHING),
    ],
)
def test_a_list_has_what_its_version_knows(
    with_api: With, path: str, options: dict[str, bool]
) -> None:
    async def client(api: Any, backend: Any) -> None:
        summary = ImageSummary(id="sha256:1", descriptor=DESCRIPTOR)
        backend.images.answers["summaries"] = [summary]
        (item,) = (await api.ask("GET", path)).json
        assert backend.images.calls[-1][2] == options
        assert ("Descriptor" in item) == ("/v1" not in path)
        assert "Manifests" not in item

    with_api(client)


def test_inspect_takes_a_platform_or_all_manifests(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.images.answers["inspect"] = ImageInspect(id="sha256:1", descriptor=DESCRIPTOR)
        await api.ask("GET", f"/images/x/json?platform={ARM}")
        assert backend.images.calls[-1][1:] == (
            ("x", Platform.parse("linux/arm64")), {"manifests": False},
        )  # fmt: skip
        await api.ask("GET", "/images/x/json?manifests=1")
        assert backend.images.calls[-1][1:] == (("x", None), {"manifests": True})
        both = await api.ask("GET", f"/images/x/json?manifests=1&platform={ARM}")
        assert both.status == 400
        await api.ask("GET", f"/v1.47/images/x/json?manifests=1&platform={ARM}")
        assert backend.images.calls[-1][1:] == (("x", None), {"manifests": False})

    with_api(client)


def test_a_removal_takes_several_platforms(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.images.answers["remove"] = []
        await api.ask("DELETE", f"/images/x?platforms={ARM}&platforms={AMD}&force=1&noprune=1")
        assert backend.images.calls[-1][2] == {
            "force": True,
            "prune_parents": False,
            "platforms": [Platform.parse("linux/arm64"), Platform.parse("linux/amd64")],
        }
        await api.ask("DELETE", f"/v1.49/images/x?platforms={ARM}")
        assert backend.images.calls[-1][2]["platforms"] == []

    with_api(client)


def test_disk_usage_tells_every_byte_only_when_asked(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        usage = DiskUsage(storage=[StorageItem(kind="Layers", count=1, size=2, reclaimable=3)])
        backend.system.answers["disk_usage"] = lambda *_, verbose: usage if verbose else DiskUsage()
        assert "Storage" not in (await api.ask("GET", "/system/df")).json
        assert (await api.ask("GET", "/system/df?verbose=1")).json["Storage"] == [
            {"Kind": "Layers", "Count": 1, "Size": 2, "Reclaimable": 3}
        ]

    with_api(client)


def test_a_check_repairs_only_when_it_is_told_to(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        problem = CheckProblem(kind="blob", object="x", message="It is broken")
        backend.images.answers["check"] = CheckReport(problems=[problem])
        body = (await api.ask("GET", "/system/check?repair=1")).json
        assert backend.images.calls[-1][2] == {}
        assert body["Problems"] == [
            {"Kind": "blob", "Object": "x", "Message": "It is broken", "Repaired": False}
        ]
        assert set(body["Checked"]) == {
            "Images", "Layers", "Blobs", "References", "Mounts", "Bytes",
        }  # fmt: skip
        await api.ask("POST", "/system/check?repair=1")
        assert backend.images.calls[-1][2] == {"repair": True}
        await api.ask("POST", "/system/check")
        assert backend.images.calls[-1][2] == {"repair": False}

    with_api(client)


@pytest.mark.parametrize("source", ["-", "http://x/y.tar", "x/y.tar"])
def test_an_import_takes_the_body_or_an_address(with_api: With, source: str) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.images.answers["import_"] = "sha256:1"

        async def messages() -> Any:
            for status in ("Downloading from x", "sha256:1"):
                yield msgspec.defstruct("Line", [("status", str)])(status)

        backend.images.answers["import_from"] = lambda *_, **__: messages()
        query = f"fromSrc={source}&repo=app&changes=ENV%20A=1&message=hello"
        reply = await api.ask("POST", f"/images/create?{query}", b"tar")
        assert reply.status == 200
        ((name, arguments, options),) = backend.images.calls
        assert name == ("import_" if source == "-" else "import_from")
        assert (arguments[0] == source) == (source != "-")
        assert arguments[1].familiar == "app:latest"
        assert options == {"changes": ["ENV A=1"], "message": "hello", "platform": None}

    with_api(client)
