"""The pages of our registry in Debian's chromium, without a display."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from tests.browser import visit
from tests.registries import OURS, Registry, registry
from tests.remote_images import busybox, index, push, small_layer
from tests.tokens import token_server

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
WEB = {"web": {"enabled": True}}
USERS = {"captain": "secret"}
LOGIN = {"username": "captain", "password": "secret"}
EVIL = "<script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    yield from visit(browser)


@pytest.fixture(scope="module")
def hub(namespace: str) -> Iterator[Registry]:
    with registry(namespace, program=OURS, more=WEB) as found:
        yield found


def test_a_user_finds_an_image_copies_its_command_and_deletes_it(hub: Registry, page: Page) -> None:
    push(hub, "team/app", "1.0", busybox(small_layer("x"), Cmd=["sh"], Labels={"who": EVIL}))
    push(
        hub, "team/app", "all", index(busybox(architecture="amd64"), busybox(architecture="arm64"))
    )
    push(hub, "other/thing", "1", busybox())
    page.goto(f"{hub.url}/ui")
    page.get_by_label("Find repositories").fill("team")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("link", name="other/thing")).to_have_count(0)
    page.get_by_role("link", name="team/app").click()
    page.get_by_role("link", name="all").click()
    expect(page.get_by_role("rowheader", name="linux/arm64")).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="1.0").click()
    expect(page).to_have_title("team/app:1.0 – Registry")
    expect(page.get_by_text(EVIL)).to_be_visible()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    page.get_by_text("Delete the tag 1.0").click()
    page.get_by_role("button", name="Delete").locator("visible=true").click()
    expect(page.get_by_role("heading", name="team/app")).to_be_visible()
    expect(page.get_by_role("link", name="1.0")).to_have_count(0)
    assert hub.tags("team/app") == ["all"]


def test_the_keyboard_is_enough(hub: Registry, page: Page) -> None:
    push(hub, "keys/app", "1", busybox())
    page.goto(f"{hub.url}/ui/repository/keys/app")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="1", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Layers")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_scheme_of_the_user_and_can_be_read(
    hub: Registry, browser: Browser, scheme: str
) -> None:
    for page in visit(browser, color_scheme=scheme):
        page.goto(f"{hub.url}/ui/")
        ink, paper = page.evaluate(
            "() => (({ color, backgroundColor }) => [color, backgroundColor])"
            "(getComputedStyle(document.body))"
        )
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 7  # WCAG 2, AAA
        assert (luminance(paper) > 0.5) == (scheme == "light")


def luminance(colour: str) -> float:
    parts = [int(text) / 255 for text in colour[4:-1].split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_works_without_scripts(hub: Registry, browser: Browser) -> None:
    push(hub, "plain/app", "1", busybox())
    for page in visit(browser, java_script_enabled=False):
        page.goto(f"{hub.url}/ui/image/plain/app?reference=1")
        expect(page.get_by_role("button", name="Copy")).to_have_count(0)
        page.get_by_text("Delete the manifest").click()
        page.get_by_role("button", name="Delete").locator("visible=true").click()
        expect(page.get_by_text("There are no tags")).to_be_visible()
    assert hub.tags("plain/app") == []


def test_a_form_of_another_site_is_refused(hub: Registry, page: Page, tmp_path: Path) -> None:
    push(hub, "safe/app", "1", busybox())
    (tmp_path / "evil.html").write_text(
        f'<form method="post" action="{hub.url}/ui/delete">'
        '<input name="repository" value="safe/app"><input name="reference" value="1">'
        '<input name="proof" value="x"><button>Win</button></form>'
    )
    page.goto(f"file://{tmp_path}/evil.html")
    page.get_by_role("button", name="Win").click()
    expect(page.get_by_role("alert")).to_contain_text("this form is not from here")
    assert hub.tags("safe/app") == ["1"]


def test_users_sign_in_with_a_password(namespace: str, browser: Browser) -> None:
    with registry(namespace, users=USERS, program=OURS, more=WEB) as hub:
        push(hub, "secret/app", "1", busybox())
        for page in visit(browser):
            with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):  # nobody is asked here
                page.goto(f"{hub.url}/ui/")
        for page in visit(browser, http_credentials=LOGIN):
            page.goto(f"{hub.url}/ui/")
            expect(page.get_by_text("Signed in as captain")).to_be_visible()
            page.goto(f"{hub.url}/ui/image/secret/app?reference=1")
            page.get_by_text("Delete the tag 1").click()
            page.get_by_role("button", name="Delete").locator("visible=true").click()
            expect(page.get_by_text("There are no tags")).to_be_visible()


def test_users_sign_in_where_tokens_are_wanted(namespace: str, browser: Browser) -> None:
    with (
        token_server(namespace, USERS) as server,
        registry(namespace, tokens=server, program=OURS, more=WEB) as hub,
    ):
        push(hub, "secret/app", "1", busybox())
        push(hub, "public/app", "1", busybox())
        for page in visit(browser):
            page.goto(f"{hub.url}/ui/repository/public/app")
            expect(page.get_by_role("link", name="1", exact=True)).to_be_visible()
        for page in visit(browser, http_credentials=LOGIN):
            page.goto(f"{hub.url}/ui/repository/secret/app")
            expect(page.get_by_text("Signed in as captain")).to_be_visible()
            page.get_by_role("link", name="1", exact=True).click()
            page.get_by_text("Delete the tag 1").click()
            page.get_by_role("button", name="Delete").locator("visible=true").click()
            expect(page.get_by_text("There are no tags")).to_be_visible()
