"""The same requests to Docker's registries and to ours: what is the same, and what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from sampan.registry.content.classes import MEDIA_PLUGIN
from sampan.spec.image import MEDIA_DOCKER_MANIFEST, MEDIA_INDEX, MEDIA_LAYER_GZIP, MEDIA_MANIFEST
from tests.registries import DOCKERS, OURS, THIRD, Registry, registry
from tests.remote_images import ACCEPT, busybox, digest, image, index, push, small_layer, upload
from tests.wire import Reply

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
Program = tuple[str, ...]
Request = tuple[str, str, bytes, Mapping[str, str]]

NONE = digest(b"nothing")
CONFIG = busybox().config.content
BLOB = digest(CONFIG)
DOCKER, OCI = busybox(), image(small_layer("oci", oci=True), oci=True)
UPLOAD = "00000000-0000-4000-8000-000000000000"
TOLD = (
    *("Docker-Content-Digest", "Etag", "Range", "Link", "Content-Range", "Accept-Ranges"),
    *("Cache-Control", "Docker-Distribution-API-Version", "Content-Length"),
)
_STATE = re.compile(r"[?&]_state=[^&]*")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def get(path: str, **headers: str) -> Request:
    return "GET", path, b"", {name.replace("_", "-"): value for name, value in headers.items()}


def ask(method: str, path: str) -> Request:
    return method, path, b"", {}


def manifest(tag: str, document: object, kind: str = MEDIA_MANIFEST) -> Request:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return "PUT", f"/v2/team/app/manifests/{tag}", body, {"Content-Type": kind}


def changed(**members: Any) -> dict[str, Any]:
    """Return the manifest of OCI with other members."""
    return {**json.loads(OCI.manifest.content), **members}


ABSENT = {"mediaType": MEDIA_LAYER_GZIP, "digest": NONE, "size": 7}
PLACE = f"/v2/team/app/blobs/{BLOB}"
SAME: list[Request] = [
    *(get("/v2/"), ask("HEAD", "/v2/"), get("/v1/"), get("/nowhere")),
    *(get("/v2/none/tags/list"), get("/v2/team/app/tags/list"), get("/v2/team/app/tags/list?n=")),
    *(get("/v2/_catalog"), get("/v2/_catalog?n=1"), get("/v2/_catalog?n=1&last=team/app")),
    *(get("/v2/_catalog?n=1000"), get("/v2/_catalog?n=1001"), get("/v2/_catalog?last=zzz")),
    *(get(PLACE), ask("HEAD", PLACE), get(PLACE, If_None_Match=f'"{BLOB}"')),
    *(get(PLACE, Range="bytes=0-9"), get(PLACE, Range="bytes=10-"), get(PLACE, Range="bytes=-5")),
    *(get(PLACE, Range="bytes=9-99999"), get(PLACE, Range="bytes=0-9", If_Range=f'"{BLOB}"')),
    *(get(PLACE, Range="bytes=0-9", If_Range='"x"'), get(PLACE, If_None_Match="*")),
    *(get(PLACE, If_None_Match='"x"'), get(PLACE.replace("sha256:", "sha256%3A"))),
    *(get(f"/v2/team/app/blobs/{NONE}"), ask("HEAD", f"/v2/team/app/blobs/{NONE}")),
    *(get(f"/v2/team/none/blobs/{BLOB}"), get("/v2/team/app/blobs/sha256:12")),
    ask("POST", "/v2/team/app/blobs/uploads/"),
    ask("POST", f"/v2/team/second/blobs/uploads/?mount={BLOB}&from=team/app"),
    ask("HEAD", f"/v2/team/second/blobs/{BLOB}"),
    ask("POST", f"/v2/team/app/blobs/uploads/?mount={NONE}&from=team/none"),
    ask("POST", f"/v2/team/app/blobs/uploads/?mount={BLOB}&from=Bad"),
    ask("POST", "/v2/team/app/blobs/uploads/?mount=bad&from=team/app"),
    ask("POST", "/v2/team/app/blobs/uploads/?mount="),
    *(get(f"/v2/team/app/manifests/{tag}", **ACCEPT) for tag in ("docker", "oci", "index")),
    *(("HEAD", f"/v2/team/app/manifests/{tag}", b"", ACCEPT) for tag in ("docker", "index")),
    get(f"/v2/team/app/manifests/{OCI.digest}", **ACCEPT),
    get("/v2/team/app/manifests/docker", If_None_Match=DOCKER.digest),
    get("/v2/team/app/manifests/docker", If_None_Match=f'"{DOCKER.digest}"'),
    *(get("/v2/team/app/manifests/none"), get(f"/v2/team/app/manifests/{NONE}")),
    get("/v2/team/none/manifests/x"),
    *(manifest("x", b"{", MEDIA_DOCKER_MANIFEST), manifest("x", {}, "text/plain")),
    *(manifest("x", b""), manifest("x", b"[]"), manifest(NONE, OCI.manifest.content)),
    *(manifest("again", OCI.manifest.content), manifest("x", changed(layers=[ABSENT]))),
    manifest("x", changed(mediaType=MEDIA_DOCKER_MANIFEST)),
    manifest("empty", {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": []}, MEDIA_INDEX),
    manifest("x", {"schemaVersion": 2, "manifests": [{**ABSENT, "mediaType": MEDIA_MANIFEST}]}),
    manifest(
        "x",
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_INDEX,
            "manifests": [
                {
                    **ABSENT,
                    "mediaType": MEDIA_MANIFEST,
                    "platform": {"os": "linux", "architecture": "arm"},
                }
            ],
        },
        MEDIA_INDEX,
    ),
    *(ask("DELETE", f"/v2/team/app/blobs/{NONE}"), ask("DELETE", PLACE), get(PLACE)),
    *(ask("DELETE", f"/v2/team/app/manifests/{digest_}") for digest_ in (NONE, OCI.digest)),
    *(get(f"/v2/team/app/manifests/{OCI.digest}", **ACCEPT), get("/v2/team/app/tags/list")),
]
# docker-registry 3 alone: 2.x has no pages of tags and removes none, and calls other things amiss.
SAME_AS_3: list[Request] = [
    *(get(f"/v2/team/app/blobs/uploads/{UPLOAD}"), get(f"/v2/team/app/manifests/{BLOB}")),
    *(get(f"/v2/team/app/tags/list?{query}") for query in ("n=1", "n=0", "n=1&last=docker")),
    *(get(f"/v2/team/app/tags/list?n={n}") for n in ("-1", "x", "2000")),
    *(get(f"/v2/_catalog?n={n}") for n in ("-1", "x", "0")),
    *(get("/v2/team/app/tags/list?last=index"), get("/v2/team/app/tags/list?last=d")),
    ask("DELETE", "/v2/team/app/manifests/oci"),
    *(get("/v2/team/app/manifests/oci", **ACCEPT), ask("DELETE", "/v2/team/app/manifests/oci")),
    get(f"/v2/team/app/manifests/{OCI.digest}", **ACCEPT),
]


def said(hub: Registry, request: Request, left_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what an answer says that clients look at."""
    method, path, body, headers = request
    reply = hub.ask(method, path, body or None, headers)
    found = {"status": str(reply.status), "code": _code(reply)}
    if reply.status >= 300:  # what is not sent has no headers that matter
        return found
    found |= {name: reply.headers[name] for name in TOLD if name in reply.headers}
    found["Content-Type"] = reply.headers.get("Content-Type", "") if reply.body else ""
    found["Location"] = _place(hub, reply)
    if reply.status == 200 and reply.body[:1] == b"{":
        document = reply.json
        if "tags" in document:  # of 2.x in any order, of 3.x null where there are none
            tags = document["tags"] or []
            document["tags"] = tags if hub.program == THIRD else sorted(tags)
        found["body"] = json.dumps(document, sort_keys=True)
        found.pop("Content-Length", None)  # some end lists with a newline
    for name in left_out:
        found.pop(name, None)
    return found


def _code(reply: Reply) -> str:
    if reply.status < 400 or not reply.body:
        return ""
    if "json" not in reply.headers["Content-Type"]:
        return "no JSON"
    return ",".join(item["code"] for item in reply.json["errors"])


def _place(hub: Registry, reply: Reply) -> str:
    place = reply.headers.get("Location", "").replace(hub.address, "HOST")
    return _STATE.sub("", _ID.sub("ID", place))


def differences(
    namespace: str,
    theirs: Program,
    requests: list[Request],
    left_out: tuple[str, ...],
    **settings: Any,
) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Ask both; return what they answer differently."""
    answers = []
    for program in (theirs, OURS):
        with registry(namespace, program=program, **settings) as hub:
            push(hub, "team/app", "docker", DOCKER)
            push(hub, "team/app", "oci", OCI)
            push(hub, "team/app", "index", index(DOCKER))
            answers.append([said(hub, request, left_out) for request in requests])
    return {
        f"{number} {method} {path} {dict(headers)}": (one, other)
        for number, ((method, path, _, headers), one, other) in enumerate(
            zip(requests, *answers, strict=True)
        )
        if one != other
    }


@pytest.mark.parametrize("program", DOCKERS)
def test_ours_answers_as_docker_registry_does(namespace: str, program: Program) -> None:
    # 3.x says of JSON nothing about its characters.
    left_out = ("Content-Type",) if program == THIRD else ()
    assert differences(namespace, program, SAME, left_out) == {}


@pytest.mark.parametrize("program", DOCKERS[1:])
def test_ours_has_pages_and_removes_tags_as_docker_registry_3_does(
    namespace: str, program: Program
) -> None:
    assert differences(namespace, program, SAME_AS_3, ("Content-Type",)) == {}


PLACES: list[Request] = [
    ("POST", "/v2/team/app/blobs/uploads/", b"", headers)
    for headers in (
        {},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example:99, b.example"},
        {"Forwarded": 'for=192.0.2.1;proto=https;host="a.example:99", host=b.example'},
        {"Forwarded": "proto=https", "X-Forwarded-Host": "a.example"},
        {"Host": "a.example"},
    )
]


@pytest.mark.parametrize("program", DOCKERS)
@pytest.mark.parametrize(
    "http",
    [
        {},
        {"host": "https://hub.example:5000"},
        {"host": "https://hub.example/below/"},
        {"host": "https://hub.example/below/", "relativeurls": True},
        {"relativeurls": True},
        {"headers": {"X-Content-Type-Options": ["nosniff"], "Cache-Control": ["no-store"]}},
    ],
)
def test_addresses_are_those_of_docker_registry(
    namespace: str, program: Program, http: dict[str, Any]
) -> None:
    requests = [*PLACES, get("/v2/"), get("/v2/team/app/tags/list"), get(PLACE)]
    more = {"http": {"secret": "x", **http}}
    assert differences(namespace, program, requests, ("Content-Type",), more=more) == {}


@pytest.mark.parametrize("program", DOCKERS)
def test_nothing_is_deleted_where_that_is_not_enabled(namespace: str, program: Program) -> None:
    requests = [
        ask("DELETE", place)
        for place in (
            *(PLACE, f"/v2/team/app/blobs/{NONE}"),
            *(f"/v2/team/app/manifests/{OCI.digest}", f"/v2/team/app/manifests/{NONE}"),
        )
    ]
    if program == THIRD:
        requests.append(ask("DELETE", "/v2/team/app/manifests/oci"))
    assert differences(namespace, program, requests, (), deletes=False) == {}


# What differs from docker-registry 3 by intent; docs/reference/registry.md says why.
INTENDED: list[tuple[Request, tuple[int, str], tuple[int, str]]] = [
    (get("/v2"), (301, ""), (200, "")),
    (ask("POST", "/v2/"), (200, ""), (405, "UNSUPPORTED")),
    (get("/v2/Bad/tags/list"), (404, "no JSON"), (400, "NAME_INVALID")),
    (get("/v2/team/app/manifests/.x"), (404, "no JSON"), (400, "TAG_INVALID")),
    (get("/v2/team/app/manifests/sha256:12"), (500, "UNKNOWN"), (400, "DIGEST_INVALID")),
    (get(f"/v2/team/app/referrers/{NONE}"), (404, "no JSON"), (200, "")),
    (get("/v2/team/app/manifests/oci"), (404, "MANIFEST_UNKNOWN"), (200, "")),
    (get("/v2/team/app/tags/list/"), (301, ""), (200, "")),
    (ask("HEAD", "/v2/team/app/tags/list"), (405, ""), (200, "")),
    (get(PLACE, Range="bytes=99999-"), (416, "no JSON"), (416, "RANGE_INVALID")),
    (get(PLACE, Range="items=0-1"), (416, "no JSON"), (200, "")),
    (ask("PATCH", PLACE), (405, "no JSON"), (405, "UNSUPPORTED")),
    (
        ("POST", f"/v2/team/app/blobs/uploads/?digest={digest(b'x')}", b"x", {}),
        (202, ""),
        (201, ""),
    ),
    (ask("POST", f"/v2/team/new/blobs/uploads/?mount={BLOB}"), (202, ""), (201, "")),
    (
        ("PATCH", f"/v2/team/app/blobs/uploads/{UPLOAD}", b"x", {}),
        (404, "BLOB_UPLOAD_INVALID"),
        (404, "BLOB_UPLOAD_UNKNOWN"),
    ),
    (
        ("PUT", f"/v2/team/app/manifests/{digest(OCI.manifest.content, 'sha512')}")
        + (OCI.manifest.content, {"Content-Type": MEDIA_MANIFEST}),
        (400, "DIGEST_INVALID"),
        (201, ""),
    ),
    (
        manifest("x", changed(layers=[{**ABSENT, "urls": ["https://example.com/x"]}])),
        (400, "MANIFEST_BLOB_UNKNOWN"),
        (201, ""),
    ),
    (manifest("x", OCI.manifest.content, ""), (400, "MANIFEST_INVALID"), (201, "")),
    (
        manifest("x", changed(annotations={"x": "y" * (4 << 20)})),
        (400, "MANIFEST_INVALID"),
        (413, "SIZE_INVALID"),
    ),
    (manifest("x", changed(config=None)), (400, "DIGEST_INVALID,MANIFEST_BLOB_UNKNOWN"))
    + ((400, "MANIFEST_INVALID"),),
]


@pytest.mark.parametrize("program", DOCKERS[1:])
def test_what_differs_from_docker_registry_3_is_what_is_told(
    namespace: str, program: Program
) -> None:
    requests = [request for request, *_ in INTENDED]
    found = []
    for one in (program, OURS):
        with registry(namespace, program=one) as hub:
            push(hub, "team/app", "oci", OCI)
            push(hub, "team/app", "docker", DOCKER)
            replies = [hub.ask(m, path, body or None, h) for m, path, body, h in requests]
            found.append([(reply.status, _code(reply)) for reply in replies])
    assert found == [[row[1] for row in INTENDED], [row[2] for row in INTENDED]]


DETAILED: list[Request] = [  # where both of Docker's registries tell the same
    *(get("/v2/_catalog"), get("/v2/team/app/tags/list"), get(PLACE), ask("DELETE", PLACE)),
    *(manifest("x", OCI.manifest.content), ask("DELETE", f"/v2/team/app/manifests/{NONE}")),
    ask("POST", f"/v2/team/second/blobs/uploads/?mount={BLOB}&from=team/app"),
]
MISSING: list[Request] = [
    *(get(f"/v2/team/app/blobs/{NONE}"), get("/v2/none/tags/list")),
    *(manifest("x", changed(layers=[ABSENT])), get("/v2/_catalog?n=1001")),
]


@pytest.mark.parametrize("program", DOCKERS)
def test_errors_have_the_same_details(namespace: str, program: Program) -> None:
    found = []
    for one in (program, OURS):
        with registry(namespace, program=one, users={"captain": "secret"}) as hub:
            push(hub, "team/app", "oci", OCI)
            closed = [hub.site.ask(m, path, body or None, h) for m, path, body, h in DETAILED]
            assert {reply.status for reply in closed} == {401}
            missing = [hub.ask(m, path, body or None, h) for m, path, body, h in MISSING]
            found.append([reply.json["errors"] for reply in closed + missing])
    assert found[1] == found[0]


PLUGIN = changed(
    mediaType=MEDIA_DOCKER_MANIFEST,
    config={**json.loads(DOCKER.manifest.content)["config"], "mediaType": MEDIA_PLUGIN},
    layers=json.loads(DOCKER.manifest.content)["layers"],
)
ARTIFACT = changed(
    config={**json.loads(OCI.manifest.content)["config"], "mediaType": "application/x.chart"}
)


@pytest.mark.parametrize("program", DOCKERS)
@pytest.mark.parametrize("allowed", [["image"], ["plugin"], ["image", "plugin"], ["other"]])
def test_classes_of_repositories_mean_the_same(
    namespace: str, program: Program, allowed: list[str]
) -> None:
    requests = [
        manifest("docker", DOCKER.manifest.content, MEDIA_DOCKER_MANIFEST),
        manifest("oci", OCI.manifest.content),
        manifest("plugin", PLUGIN, MEDIA_DOCKER_MANIFEST),
        manifest("artifact", ARTIFACT),
        manifest("index", {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": []})[:3]
        + ({"Content-Type": MEDIA_INDEX},),
    ]
    found = []
    for one in (program, OURS):
        with registry(
            namespace, program=one, more={"policy": {"repository": {"classes": allowed}}}
        ) as hub:
            for shipped in (DOCKER, OCI):
                for blob in (shipped.config, *shipped.layers):
                    upload(hub, "team/app", blob)
            replies = [hub.ask(m, path, body or None, h) for m, path, body, h in requests]
            found.append([(reply.status, reply.status == 403 and reply.body) for reply in replies])
    assert [status for status, _ in found[0]].count(403) >= 1
    assert [status for status, _ in found[1]] == [status for status, _ in found[0]]
    assert _messages(found[1]) == _messages(found[0])


def _messages(found: list[tuple[int, Any]]) -> list[Any]:
    return [body and json.loads(body)["errors"][0]["message"] for _, body in found]


def test_every_address_is_one_of_ours(namespace: str) -> None:
    """What relative addresses lead to with a prefix; docker-registry leaves the prefix out."""
    more = {"http": {"secret": "x", "prefix": "/below/", "relativeurls": True}}
    with registry(namespace, program=OURS, more=more) as hub:
        place = hub.ask("POST", "/below/v2/a/blobs/uploads/").headers["Location"]
        assert urlsplit(place).netloc == ""
        assert hub.ask("PUT", f"{place}?digest={digest(b'x')}", b"x").status == 201
