from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import check
from sampan.registryd.reporting import services

GOOD = "version: 0.1\nstorage: inmemory\nreporting: "
WITHOUT = (
    "import sys; sys.modules[{!r}] = None; from sampan.registryd.main import main;"
    " sys.exit(main(['verify', {!r}]))"
)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{bugsnag: {}, newrelic: {verbose: true, name: x}}",
        "{bugsnag: {apikey: 0123, releasestage: x, endpoint: 'https://notify.example.com'}}",
        "{newrelic: {licensekey: 0123, name: x, verbose: true}}",
    ],
)
def test_both_services_are_known(text: str) -> None:
    checked = check((GOOD + text).encode(), {})
    assert checked.problems == ()
    services.look(checked)


@pytest.mark.parametrize("endpoint", ["notify.example.com", "ftp://x", "https://"])
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    checked = check(f"{GOOD}{{bugsnag: {{apikey: x, endpoint: '{endpoint}'}}}}".encode(), {})
    with pytest.raises(InvalidArgument, match=r"reporting\.bugsnag\.endpoint: must be an address"):
        services.look(checked)


@pytest.mark.parametrize(("kind", "key"), services.KEYS.items())
def test_a_library_that_is_missing_is_named(kind: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"{GOOD}{{{kind}: {{{key}: x}}}}")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(kind, str(path))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = f"{path}: reporting.{kind}: {kind} is missing: install sampan[registry-{kind}]\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_keys_are_given_by_the_environment_too() -> None:
    checked = check((GOOD + "{}").encode(), {"REGISTRY_REPORTING_BUGSNAG_APIKEY": "0123"})
    assert checked.get("reporting.bugsnag.apikey") == "0123"
