"""What the program's commands do, once everything that they need is there."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from sampan.errors import InvalidArgument, Unavailable
from sampan.registry.configuration.document import Checked, load
from sampan.registry.configuration.nodes import seconds, size
from sampan.registry.content.quotas import in_words
from sampan.registry.observability.audit import verify as verify_audit
from sampan.registryd import bounds, control, descriptors, governing, settings, token_settings, web
from sampan.registryd.logs import shown
from sampan.registryd.owner import as_owner
from sampan.registryd.reporting import services
from sampan.registryd.serve import configure_logs
from sampan.registryd.serve import serve as serve_registry
from sampan.registryd.upkeep import Line, Upkeep

log = logging.getLogger(__name__)


def _loaded(path: Path) -> Checked:
    """Read a configuration to work with: what is wrong stops us, the unknown is warned about."""
    checked = load(path, os.environ)
    wrong = [str(problem) for problem in checked.problems if problem.stops]
    if wrong:
        raise InvalidArgument(f"{path}: " + f"\n{path}: ".join(wrong))
    configure_logs(checked)
    for problem in checked.problems:
        log.warning("%s: %s", path, problem)
    return checked


def serve(options: argparse.Namespace, path: Path) -> int:
    """Serve until a signal ends it."""
    checked = _loaded(path)
    with suppress(asyncio.CancelledError):  # a signal came before it listened
        asyncio.run(serve_registry(checked))
    return 0


def verify(options: argparse.Namespace, path: Path) -> int:
    """Print everything that is wrong, unknown or harmless; the status is 0 if that is all."""
    from sampan.registryd import upstreams  # the client of registries

    checked = load(path, os.environ)
    for problem in checked.problems:
        if problem.harmless:
            sys.stderr.write(shown(f"{path}: {problem}\n"))
    problems = [str(problem) for problem in checked.problems if not problem.harmless]
    if not problems:
        try:
            bounds.proxies(checked)
            settings.collecting(checked)
            settings.endpoints(checked)
            settings.mailboxes(checked)
            settings.try_algorithms(checked)
            token_settings.lifetime(checked)
            governing.quotas(checked)
            upstreams.places(checked)
            settings.try_storage(checked)
            descriptors.look(checked)
            web.look(checked)
            services.look(checked)
            governing.retaining(checked)
            governing.shared(checked)
            governing.scrubbing(checked)
            governing.audit_key(checked)
        except InvalidArgument as error:
            problems = [str(error)]
    for told in problems:
        sys.stderr.write(shown(f"{path}: {told}\n"))
    if not problems:
        sys.stdout.write(f"{path}: ok\n")
    return 1 if problems else 0


def garbage_collect(options: argparse.Namespace, path: Path) -> int:
    """Collect what nobody needs, in the registry that serves or, if none does, here."""
    checked = _loaded(path)
    if not settings.has_storage(checked):
        raise InvalidArgument("a token service alone has no garbage")
    if settings.storage_kind(checked) == "inmemory":
        raise InvalidArgument("a registry in memory has no garbage when it is not running")
    given = {"untagged": "1"} if options.delete_untagged else {}
    given |= {"dry_run": "1"} if options.dry_run else {}
    if options.delay:
        try:
            given["delay"] = str(seconds(options.delay))
        except ValueError as error:
            raise InvalidArgument(f"--delay: {error}") from error
    try:
        lines = list(_collected(checked, given))
    except OSError as error:
        raise Unavailable(f"garbage is not collected: {error.strerror or error}") from error
    if not options.quiet:
        _tell_collected(lines)
    return 0


def _collected(checked: Checked, given: dict[str, str]) -> Iterator[Line]:
    """Collect in the registry that runs; here if none does, and then nothing is too young."""
    folder = settings.own_folder(checked)
    lines = control.ask(folder, "collect", given) if folder else None
    if lines is not None:
        return lines
    if governing.shared(checked):
        raise InvalidArgument(
            "registries that share a database collect while they serve: start one, or enable"
            " storage.maintenance.garbagecollection"
        )
    return _here(checked, "collect", {"delay": "0", **given})


def _tell_collected(lines: Sequence[Line]) -> None:
    *items, total = lines
    for item in items:
        if "repository" in item:
            _say(f"manifest eligible for deletion: {item['repository']}@{item['digest']}")
        else:
            _say(f"blob eligible for deletion: {item['digest']}")
    _say(
        f"\n{total['blobs']} blobs and {total['manifests']} manifests"
        f" eligible for deletion, {total['bytes']} bytes"
    )
    if total["serving"]:
        _say(
            f"The registry serves: what was pushed or asked for in the last {total['delay']:g}"
            " seconds stays. See --delay."
        )


def retention(options: argparse.Namespace, path: Path) -> int:
    """Apply the rules of retention now, and tell what went."""
    verb = "would be removed" if options.dry_run else "is removed"
    count = 0
    for line in _upkeep(path, "retention", {"dry_run": "1"} if options.dry_run else {}):
        count += 1
        what = f"tag {line['tag']}" if "tag" in line else "manifest"
        _say(f"{what} of {line['repository']} {verb}: {line['digest']}")
    if not count:
        _say("nothing to remove")
    return 0


def scrub(options: argparse.Namespace, path: Path) -> int:
    """Read all that is stored; the status is 1 if anything is damaged."""
    given = {"report": "1"} if options.report else {}
    if options.rate:
        try:
            given["rate"] = str(size(options.rate))
        except ValueError as error:
            raise InvalidArgument(f"--rate: {error}") from error
    damaged = 0
    for line in _upkeep(path, "scrub", given):
        if "digest" in line:
            where = ", ".join(line["repositories"]) or "no repository"
            done = "; put into quarantine" if line["quarantined"] else ""
            _say(f"{line['digest']}: {line['reason']} ({where}){done}")
        else:
            damaged = line["damaged"]
            _say(f"{line['blobs']} blobs, {line['bytes']} bytes read, {damaged} damaged")
    return 1 if damaged else 0


def quotas(options: argparse.Namespace, path: Path) -> int:
    """Tell how much of each quota is in use."""
    for line in _upkeep(path, "quotas", {}):
        parts = [line["name"]]
        if "size" in line:
            parts.append(f"{in_words(line['used'])} of {in_words(line['size'])}")
            if line["unfinished"]:
                parts.append(f"{in_words(line['unfinished'])} in uploads")
        if "tags" in line:
            parts.append(f"{line['used_tags']} of {line['tags']} tags")
        if "uploads" in line:
            parts.append(f"{line['used_uploads']} of {line['uploads']} uploads")
        _say("\t".join(parts))
    return 0


def audit(options: argparse.Namespace, path: Path) -> int:
    """Verify audit logs, the oldest first: the status is 1 if one is not what was written."""
    checked = _loaded(path)
    given = [Path(name) for name in options.files]
    if not given and checked.get("audit.path"):
        given = [Path(str(checked.get("audit.path")))]
    if not given:
        raise InvalidArgument("the configuration has no audit log")
    try:
        broken = list(verify_audit(given, governing.audit_key(checked)))
    except OSError as error:
        raise InvalidArgument(f"{error.filename}: {error.strerror}") from error
    for place in broken:
        _say(f"{place.path}:{place.line}: {place.reason}")
    if not broken:
        _say("ok")
    return 1 if broken else 0


def _upkeep(path: Path, what: str, given: dict[str, str]) -> Iterator[Line]:
    """Have something done by the registry that runs, or here if none does; yield what it tells."""
    checked = _loaded(path)
    folder = settings.own_folder(checked)
    if folder is None:
        raise InvalidArgument("this needs a registry that stores something")
    lines = control.ask(folder, what, given)
    if lines is not None:
        yield from lines
        return
    yield from _here(checked, what, given)


def _here(checked: Checked, what: str, given: dict[str, str]) -> Iterator[Line]:
    """Do something on the files of a registry that does not run."""
    log_file = governing.audit(checked)
    with ExitStack() as stack:
        if log_file:
            stack.callback(log_file.close)
        if folder := settings.own_folder(checked):
            written = folder.with_name("docker")  # before us, perhaps by root in another's folder
            is_new = not folder.exists() and written.exists()
            stack.enter_context(as_owner(written if is_new else folder))
        registry = stack.enter_context(settings.open_registry(checked))
        if registry.metadata.alone:  # whoever commands it wants the time to count since the end
            registry.metadata.catch_up()
        upkeep = Upkeep(
            *(registry, governing.retaining(checked), governing.scrubbing(checked)),
            *(settings.collecting(checked), log_file),
        )
        wanted = control.work(upkeep, what, given)
        told: list[Line] = []
        if wanted:
            wanted(told.append)
        yield from told


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
