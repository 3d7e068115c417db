"""How the streams of a container are connected, read off its record."""

from __future__ import annotations

import re
from typing import Literal, cast

from sampan.engine.container import Record
from sampan.runtime.spawner import Streams
from sampan.spec.names import short_id

Driver = Literal["json-file", "local", "none"]


def streams(record: Record) -> Streams:
    """Return terminal, stdin and log as the spawner takes them."""
    config, log = record.config, record.host_config.log_config
    rows, columns = record.host_config.console_size
    options = dict(log.config or {})
    return Streams(
        terminal=config.tty,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        rows=rows,
        columns=columns,
        log_driver=cast(Driver, log.type or "json-file"),
        log_options=options,
        log_attributes=_attributes(record, options),
    )


def _attributes(record: Record, options: dict[str, str]) -> dict[str, str]:
    """Return what is kept with each line: labels and variables by name or pattern, and the tag.

    Source: moby daemon/logger/loginfo.go, ExtraAttributes.
    """
    labels = record.config.labels or {}
    environment = dict(entry.partition("=")[::2] for entry in record.config.env or [])
    found: dict[str, str] = {}
    for source, names, pattern in (
        (labels, options.get("labels", ""), options.get("labels-regex", "")),
        (environment, options.get("env", ""), options.get("env-regex", "")),
    ):
        wanted = {name for name in names.split(",") if name}
        found |= {key: value for key, value in source.items() if key in wanted}
        if pattern:
            expression = re.compile(pattern)
            found |= {key: value for key, value in source.items() if expression.search(key)}
    if tag := options.get("tag"):
        names_of = {
            "{{.ID}}": short_id(record.id),
            "{{.FullID}}": record.id,
            "{{.Name}}": record.name,
            "{{.ImageName}}": record.config.image,
            "{{.ImageID}}": short_id(record.image),
        }
        for field, value in names_of.items():
            tag = tag.replace(field, value)
        found["tag"] = tag
    return found
