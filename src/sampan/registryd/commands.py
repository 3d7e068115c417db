"""What the program's commands do, once everything that they need is there."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import Checked, load
from sampan.registry.drivers.choice import OBJECTS
from sampan.registryd import governing, settings, token_settings, upstreams
from sampan.registryd.serve import configure_logs
from sampan.registryd.serve import serve as serve_registry

log = logging.getLogger(__name__)


def _loaded(path: Path) -> Checked:
    """Read a configuration to work with: what is wrong stops us, the unknown is warned about."""
    checked = load(path, os.environ)
    wrong = [str(problem) for problem in checked.problems if not problem.unknown]
    if wrong:
        raise InvalidArgument(f"{path}: " + f"\n{path}: ".join(wrong))
    configure_logs(checked)
    for problem in checked.problems:
        log.warning("%s: %s", path, problem)
    return checked


def serve(options: argparse.Namespace, path: Path) -> int:
    """Serve until a signal ends it."""
    asyncio.run(serve_registry(_loaded(path)))
    return 0


def verify(options: argparse.Namespace, path: Path) -> int:
    """Print everything that is wrong or unknown; the status is 1 if there is anything."""
    checked = load(path, os.environ)
    problems = [str(problem) for problem in checked.problems]
    if not problems:
        try:
            settings.collecting(checked)
            settings.endpoints(checked)
            settings.mailboxes(checked)
            token_settings.lifetime(checked)
            governing.quotas(checked)
            upstreams.places(checked)
            if settings.storage_kind(checked) in OBJECTS:
                settings.open_storage(checked).close()
        except InvalidArgument as error:
            problems = [str(error)]
    for problem in problems:
        sys.stderr.write(f"{path}: {problem}\n")
    if not problems:
        sys.stdout.write(f"{path}: ok\n")
    return 1 if problems else 0


def garbage_collect(options: argparse.Namespace, path: Path) -> int:
    """Collect what nobody needs, at once: nobody is pushing while no registry serves."""
    checked = _loaded(path)
    if not settings.has_storage(checked):
        raise InvalidArgument("a token service alone has no garbage")
    if settings.storage_kind(checked) == "inmemory":
        raise InvalidArgument("a registry in memory has no garbage when it is not running")
    with settings.open_registry(checked) as registry:
        found = registry.collector.collect(
            0, untagged=options.delete_untagged, dry_run=options.dry_run
        )
    if not options.quiet:
        for repository, digest in found.manifests:
            sys.stdout.write(f"manifest eligible for deletion: {repository}@{digest}\n")
        for digest in found.blobs:
            sys.stdout.write(f"blob eligible for deletion: {digest}\n")
        sys.stdout.write(
            f"\n{len(found.blobs)} blobs and {len(found.manifests)} manifests"
            f" eligible for deletion, {found.bytes} bytes\n"
        )
    return 0
