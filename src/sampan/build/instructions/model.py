"""What a Dockerfile says: one class for each instruction, as written, no variable replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.build.dockerfiles.source import Heredoc
from sampan.spec.image import Healthcheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an instruction stands, and its text."""

    first: int = 0
    last: int = 0
    text: str = ""  # on one line, as `history` shows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Base of all."""

    place: Place = field(default_factory=Place, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM image [AS name]."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG name[=default] …: a default of None means that there is none."""

    variables: Sequence[tuple[str, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV name=value …"""

    pairs: Sequence[tuple[str, str]]
    old_form: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL name=value …"""

    pairs: Sequence[tuple[str, str]]
    old_form: bool = False
    of_client: bool = False  # it stands in no Dockerfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """RUN --mount=…"""

    type: str = "bind"
    source: str = ""
    target: str = ""
    origin: str = ""  # `from=`: a stage or an image
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes, of tmpfs
    env: str | None = None  # the variable that gets a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """RUN --device=…"""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN, in its shell form (one string in `command`) or its exec form."""

    command: Sequence[str]
    shell_form: bool
    heredocs: Sequence[Heredoc] = ()
    mounts: Sequence[str] = ()  # values of --mount
    network: str = "default"
    security: str = "sandbox"
    devices: Sequence[Device] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Instruction):
    """CMD."""

    command: Sequence[str]
    shell_form: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT."""

    command: Sequence[str]
    shell_form: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY and ADD: `add` tells which."""

    sources: Sequence[str]
    destination: str
    heredocs: Sequence[Heredoc] = ()
    add: bool = False
    origin: str = ""  # --from
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: Sequence[str] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None  # None: the address may say it
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE port[/protocol] …"""

    ports: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """USER name[:group]."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """VOLUME path …"""

    paths: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR path."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """STOPSIGNAL signal."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellCommand(Instruction):
    """SHELL ["program", "argument"]."""

    command: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Instruction):
    """HEALTHCHECK."""

    check: Healthcheck


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """ONBUILD instruction."""

    trigger: str
