"""The middlewares of a configuration that change the addresses of blobs: `middleware.storage`."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from sampan.registry.configuration.document import Checked
from sampan.registry.drivers.driver import Driver
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.drivers.objects.options import Options
from sampan.registry.redirects.addresses import Addresses, Middleware, Redirect, Rewrite

log = logging.getLogger(__name__)


def addresses(checked: Checked, driver: Driver) -> Addresses:
    """Return where the blobs of a driver are found; raise InvalidArgument. It is to be closed."""
    found: list[Middleware] = []
    with ExitStack() as undo:
        for number, item in enumerate(checked.get("middleware.storage", [])):
            if item.get("disabled"):
                continue
            options = Options(item.get("options") or {}, f"middleware.storage[{number}].options")
            made = _made(item["name"], options, driver)
            if made is not None:
                undo.callback(made.close)
                found.append(made)
        undo.pop_all()
    return Addresses(driver.url, found)


def are_wanted(checked: Checked) -> bool:
    """Tell whether there is any."""
    return any(not item.get("disabled") for item in checked.get("middleware.storage", []))


def _made(name: str, options: Options, driver: Driver) -> Middleware | None:
    if name == "redirect":
        return Redirect(options)
    if name == "rewrite":
        return Rewrite(options)
    if not isinstance(driver, ObjectDriver) or not driver.bucket.name.startswith("s3://"):
        log.warning("the middleware cloudfront works with the storage s3 only and is left out")
        return None
    from sampan.registry.redirects.cloudfront import CloudFront

    return CloudFront(options, driver.key)
