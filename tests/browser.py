"""Debian's chromium in a network namespace, without a display."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, sync_playwright

from tests.session import scratch


@contextlib.contextmanager
def chromium(namespace: str) -> Iterator[Browser]:
    """Run the browser."""
    folder = scratch()
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{namespace} chromium "$@"\n')
    program.chmod(0o755)
    try:
        with sync_playwright() as playwright:
            found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            yield found
            found.close()
    finally:
        shutil.rmtree(folder)


def visit(browser: Browser, **options: object) -> Iterator[Page]:
    """Yield a page of a fresh profile, which must have nothing to complain of at its end."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    found = context.new_page()
    found.set_default_timeout(20_000)
    complaints: list[str] = []
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("console", lambda message: complaints.append(message.text))
    found.on("dialog", lambda dialog: complaints.append(dialog.message))
    yield found
    context.close()
    assert [text for text in complaints if "401" not in text and "403" not in text] == []
