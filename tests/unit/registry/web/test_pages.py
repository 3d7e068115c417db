"""What the pages show, to whom, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlencode

import bcrypt
import pytest

from sampan.registry.auth.htpasswd import Htpasswd
from sampan.registry.service import Service
from sampan.spec.image import MEDIA_INDEX
from tests.own_registry import Shop, index, manifest, serving, sha
from tests.unit.registry.web.conftest import Browser, browsing

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m'
BASIC = "Basic Y2FwdGFpbjpzZWNyZXQ="  # captain:secret


def image(shop: Shop, name: str, tag: str, **config: object) -> str:
    """Push an image with a real configuration."""
    document = {"os": "linux", "architecture": "arm64", "created": "2026-01-02T03:04:05Z"}
    history = [
        {"created": "2026-01-02T03:04:05Z", "created_by": "ADD rootfs", "comment": "by hand"},
        {"created_by": 'CMD ["sh"]', "empty_layer": True},
    ]
    text = json.dumps({**document, "history": history, "config": config})
    return shop.push(name, tag, config=text.encode())


def proof(page: str, reference: str) -> str:
    found = re.search(
        rf'value="{re.escape(reference)}">\s*<input [^>]*name="proof" value="(\w+)"', page
    )
    assert found, page
    return found[1]


def form(page: str, name: str, reference: str) -> str:
    fields = {"repository": name, "reference": reference, "proof": proof(page, reference)}
    return urlencode(fields)


def test_repositories_are_found_page_by_page(browser: Browser) -> None:
    for number in range(120):
        browser.shop.push_blob(f"team/app-{number:03}", b"x")
    browser.shop.push("other", "1")
    first = browser.text("/ui/")
    assert "team/app-048" in first
    assert "team/app-049" not in first
    more = re.search(r'rel="next" href="\?([^"]+)"', first)
    assert more
    second = browser.text("/ui/?" + more[1].replace("&amp;", "&"))
    assert "team/app-049" in second
    found = browser.text("/ui/?q=APP-11")
    assert re.findall(r"team/app-\d+(?=</a>)", found) == [f"team/app-11{n}" for n in range(10)]
    assert "There are no repositories" in browser.text("/ui/?q=%25")


def test_tags_are_listed_with_kind_and_size(browser: Browser) -> None:
    digest = image(browser.shop, "app", "1.0")
    body = browser.shop.get("/v2/app/manifests/1.0").body
    browser.shop.put("app", "all", index([(digest, len(body))]), MEDIA_INDEX)
    page = browser.text("/ui/repository/app")
    assert re.findall(r"<td>(image|several platforms)</td>", page) == ["image", "several platforms"]
    assert "/ui/image/app?reference=1.0" in page
    assert "There are no tags" in browser.text("/ui/repository/app?q=zz")


def test_an_image_shows_what_it_is_made_of(browser: Browser) -> None:
    digest = image(browser.shop, "team/app", "1.0", Cmd=["sh", "-c"], Labels={"who": "me"})
    attached = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": 3,
    }
    body = manifest([], [], subject=attached, artifactType="text/sbom", annotations={"note": "x"})
    browser.shop.push_blob("team/app", b"{}")
    assert browser.shop.put("team/app", sha(body), body).status == 201
    page = browser.text("/ui/image/team/app?reference=1.0")
    for shown in (
        *("docker pull registry.test/team/app:1.0", digest, "linux/arm64", "2026-01-02 03:04"),
        *("ADD rootfs", "by hand", "<dt>who</dt><dd>me</dd>", "text/sbom", "note: x", "<h2>Layers"),
    ):
        assert shown in page, shown
    by_digest = browser.text(f"/ui/image/team/app?reference={digest}")
    assert f"docker pull registry.test/team/app@{digest}" in by_digest


def test_an_index_shows_its_platforms(browser: Browser) -> None:
    digest = image(browser.shop, "app", "1")
    child = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 5}
    child["platform"] = {"os": "linux", "architecture": "arm", "variant": "v7"}
    document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    body = json.dumps({**document, "manifests": [child]}).encode()
    assert browser.shop.put("app", "all", body, document["mediaType"]).status == 201
    page = browser.text("/ui/image/app?reference=all")
    assert "linux/arm/v7" in page
    assert f"reference={digest.replace(':', '%3A')}" in page


def test_what_images_say_is_never_markup(browser: Browser) -> None:
    config = json.dumps(
        {
            "os": EVIL,
            "architecture": EVIL,
            "created": EVIL,
            "config": {"Env": [EVIL], "Labels": {EVIL: EVIL}, "ExposedPorts": {EVIL: {}}},
            "history": [{"created_by": EVIL, "created": EVIL, "comment": EVIL}],
        }
    ).encode()
    digest = browser.shop.push(
        "app", "1", config=config, annotations={EVIL: EVIL}, artifactType=EVIL
    )
    subject = {"mediaType": "a/b", "digest": digest, "size": 1}
    body = manifest([], [], config, subject=subject, artifactType=EVIL, annotations={EVIL: EVIL})
    assert browser.shop.put("app", sha(body), body).status == 201
    urls = [
        "/ui/image/app?reference=1",
        "/ui/repository/app",
        f"/ui/image/app?reference={sha(body)}",
    ]
    for url in [*urls, "/ui/?" + urlencode({"q": EVIL}), "/ui/open?" + urlencode({"name": EVIL})]:
        page = browser.get(url, host='x"><script>alert(3)</script>').body.decode()
        assert "<script>" not in page
        assert "<img" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page


@pytest.mark.parametrize(
    "config",
    [
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"config": 3, "history": {"a": 1}}',
        b'{"history": [1, null]}',
    ],
)
def test_a_configuration_that_is_none_harms_nobody(browser: Browser, config: bytes) -> None:
    browser.shop.push("app", "1", config=config)
    assert "<h2>Layers" in browser.text("/ui/image/app?reference=1")


def test_browsers_are_told_to_trust_nothing(browser: Browser) -> None:
    for url in ("/ui/", "/ui/none", "/ui/static/style.css", "/ui/repository/none"):
        answer = browser.get(url)
        policy = answer.header("content-security-policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("x-frame-options") == "DENY"
    for name in ("style.css", "script.js", "icon.svg"):
        assert browser.get(f"/ui/static/{name}").status == 200


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/ui", 303),
        ("/ui/none", 404),
        ("/ui/repository/none", 404),
        ("/ui/repository/UPPER", 400),
        ("/ui/repository/../../etc", 400),
        ("/ui/image/app?reference=none", 404),
        ("/ui/image/app?reference=a%2Fb", 400),
        ("/ui/image/app", 400),
        (f"/ui/image/app?reference={sha(b'no')}", 404),
        ("/ui/static/none", 404),
        ("/ui/static/../base.html", 404),
        ("/ui/delete", 405),
        ("/ui/open?name=team/app", 303),
    ],
)
def test_what_is_not_there_is_told(browser: Browser, url: str, status: int) -> None:
    browser.shop.push("app", "1")
    answer = browser.get(url)
    assert answer.status == status
    if status >= 400:
        assert b"<h1>This is not possible</h1>" in answer.body


def test_everything_else_is_the_registry(browser: Browser) -> None:
    assert browser.get("/v2/").body == b"{}"
    assert browser.get("/uix").status == 404


# --- deletions -----------------------------------------------------------------------------------


def test_a_tag_and_a_manifest_are_deleted_by_forms(browser: Browser) -> None:
    digest = image(browser.shop, "team/app", "1")
    browser.shop.put("team/app", "2", browser.shop.get("/v2/team/app/manifests/1").body)
    page = browser.text("/ui/image/team/app?reference=1")
    answer = browser.post(form(page, "team/app", "1"), Sec_Fetch_Site="same-origin")
    assert (answer.status, answer.header("location")) == (303, "/ui/repository/team/app")
    assert browser.shop.tags("team/app") == ["2"]
    assert browser.post(form(page, "team/app", digest)).status == 303
    assert browser.shop.tags("team/app") == []
    again = browser.post(form(page, "team/app", digest))
    assert (again.status, b"no such image" in again.body) == (404, True)


def test_what_another_site_sends_deletes_nothing(browser: Browser) -> None:
    image(browser.shop, "app", "1")
    image(browser.shop, "app", "2")
    page = browser.text("/ui/image/app?reference=1")
    stolen = proof(page, "1")
    for fields in (
        {"repository": "app", "reference": "1"},
        {"repository": "app", "reference": "1", "proof": "x"},
        {"repository": "app", "reference": "1", "proof": "\u00e9"},
        {"repository": "app", "reference": "2", "proof": stolen},
    ):
        assert browser.post(urlencode(fields)).status == 403
    foreign = browser.post(form(page, "app", "1"), Sec_Fetch_Site="cross-site")
    assert foreign.status == 403
    assert browser.post(form(page, "app", "1"), Content_Type="text/plain").status == 415
    assert browser.post("proof=" + "x" * 9000).status == 413
    assert browser.post("&".join("a=1" for _ in range(11))).status == 400
    assert browser.shop.tags("app") == ["1", "2"]


@pytest.mark.parametrize("service", [Service(), Service(deletes=True, read_only=True)])
def test_where_nothing_may_be_deleted_there_is_no_form(service: Service) -> None:
    with browsing(service) as browser:
        with serving(browser.shop.registry) as writer:
            image(writer, "app", "1")
        assert "delete" not in browser.text("/ui/image/app?reference=1").lower()
        assert browser.post("repository=app&reference=1&proof=x").status == 403
        assert browser.shop.tags("app") == ["1"]


def test_the_registry_has_the_last_word(browser: Browser) -> None:
    image(browser.shop, "app", "1")
    page = browser.text("/ui/image/app?reference=1")
    browser.shop.application.service = Service()  # deletes are not enabled any more
    assert browser.post(form(page, "app", "1")).status == 405
    assert browser.shop.tags("app") == ["1"]


def test_users_of_a_password_file_are_asked_by_the_browser(tmp_path: Path) -> None:
    entry = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"captain:{entry}\n")
    with browsing(access=Htpasswd("ship", str(tmp_path / "users"))) as browser:
        for url in ("/ui/", "/ui/repository/app", "/ui/image/app?reference=1", "/ui/login"):
            answer = browser.get(url)
            assert answer.status == 401
            assert answer.header("www-authenticate") == 'Basic realm="ship"' or "login" in url
        assert browser.get("/ui/static/style.css").status == 200
        assert browser.post("repository=app&reference=1").status == 401
        assert browser.get("/ui/", authorization="Basic Y2FwdGFpbjp3cm9uZw==").status == 401
        assert "<strong>captain</strong>" in browser.text("/ui/", authorization=BASIC)
        assert browser.get("/ui/login", authorization=BASIC).status == 303
