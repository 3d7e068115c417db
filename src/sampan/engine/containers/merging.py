"""A container's configuration over its image's. Source: moby daemon/create.go, image merge."""

from __future__ import annotations

from msgspec import UNSET

from sampan.spec.docker.config import Config
from sampan.spec.image import Healthcheck, RunConfig


def merged(config: Config, image: RunConfig) -> Config:
    """Return `config` with what it leaves open taken from the image."""
    config.cmd, config.entrypoint = _words(config.cmd), _words(config.entrypoint)
    config.user = config.user or image.user
    if exposed := {**(image.exposed_ports or {}), **(config.exposed_ports or {})}:
        config.exposed_ports = exposed
    config.env = _environment(config.env, image.env)
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    if config.entrypoint is None:
        if config.cmd is None:
            config.cmd = image.cmd
        config.entrypoint = image.entrypoint
    elif config.entrypoint in ([], [""]):  # an empty entry point clears the image's
        config.entrypoint = None
    config.healthcheck = _healthcheck(config.healthcheck or None, image.healthcheck) or UNSET
    config.working_dir = config.working_dir or image.working_dir
    if image.volumes or config.volumes:
        config.volumes = {**(image.volumes or {}), **(config.volumes or {})}
    config.stop_signal = config.stop_signal or image.stop_signal or UNSET
    if not config.stop_timeout and config.stop_timeout != 0 and image.stop_timeout is not None:
        config.stop_timeout = image.stop_timeout
    config.shell = config.shell or image.shell or UNSET
    return config


def _words(value: list[str] | str | None) -> list[str] | None:
    """Return a command as a list; one string is the only word (moby strslice)."""
    return [value] if isinstance(value, str) else value


def _environment(own: list[str] | None, image: list[str] | None) -> list[str]:
    names = {entry.partition("=")[0] for entry in own or []}
    inherited = [entry for entry in image or [] if entry.partition("=")[0] not in names]
    return [*(own or []), *inherited]


def _healthcheck(own: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    if own is None or image is None:
        return own or image
    own.test = own.test or image.test
    own.interval = own.interval or image.interval
    own.timeout = own.timeout or image.timeout
    own.start_period = own.start_period or image.start_period
    own.start_interval = own.start_interval or image.start_interval
    own.retries = own.retries or image.retries
    return own
