"""Bodies of the exec endpoints of Docker's Engine API.

Source: moby api/types/container exec.go, exec_create_request.go, exec_start_request.go.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from sampan.spec.docker.config import Strings


class ExecCreateRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None  # height, width
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: Strings = None


class ExecCreateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /containers/{id}/exec."""

    id: str


class ExecStartRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class ExecProcessConfig(msgspec.Struct, kw_only=True):
    """What the exec runs."""

    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool
    user: str | UnsetType = UNSET


class ExecInspect(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /exec/{id}/json."""

    id: str = msgspec.field(name="ID")
    running: bool = False
    exit_code: int | None = None
    process_config: ExecProcessConfig
    open_stdin: bool = False
    open_stderr: bool = False
    open_stdout: bool = False
    can_remove: bool = False
    container_id: str = msgspec.field(name="ContainerID")
    detach_keys: str = ""  # base64 of the key codes
    pid: int = 0
