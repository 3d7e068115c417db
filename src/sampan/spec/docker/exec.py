"""Bodies of the exec endpoints of Docker's Engine API."""

from __future__ import annotations

import msgspec


class ExecCreateRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None  # height, width
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class ExecCreateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /containers/{id}/exec."""

    id: str


class ExecStartRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


class ExecProcessConfig(msgspec.Struct, kw_only=True):
    """The program of an exec."""

    tty: bool = False
    entrypoint: str = ""
    arguments: list[str] = []
    privileged: bool = False
    user: str | msgspec.UnsetType = msgspec.UNSET


class ExecInspect(msgspec.Struct, kw_only=True):
    """The body of GET /exec/{id}/json."""

    id: str = msgspec.field(name="ID")
    running: bool = msgspec.field(name="Running")
    exit_code: int | None = msgspec.field(name="ExitCode")
    process_config: ExecProcessConfig = msgspec.field(name="ProcessConfig")
    open_stdin: bool = msgspec.field(name="OpenStdin")
    open_stderr: bool = msgspec.field(name="OpenStderr")
    open_stdout: bool = msgspec.field(name="OpenStdout")
    can_remove: bool = msgspec.field(name="CanRemove")
    container_id: str = msgspec.field(name="ContainerID")
    detach_keys: str = msgspec.field(name="DetachKeys")
    pid: int = msgspec.field(name="Pid")
