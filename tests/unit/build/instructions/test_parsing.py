"""Each instruction in each of its forms."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.build.dockerfiles.dockerfile import parse_dockerfile
from sampan.build.instructions import model
from sampan.spec.image import Healthcheck


def parsed(line: str) -> Any:
    [instruction] = parse_dockerfile(f"FROM a\n{line}\n".encode()).stages[0].instructions
    return instruction


SECOND = 10**9


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RUN a b", model.Run(command=["a b"], shell_form=True)),
        ('RUN ["a", "b"]', model.Run(command=["a", "b"], shell_form=False)),
        ('RUN ["a"] && b', model.Run(command=['["a"] && b'], shell_form=True)),
        (
            "RUN --mount=type=cache,target=/c --network=none --mount=type=tmpfs,target=/t x",
            model.Run(
                command=["x"],
                shell_form=True,
                mounts=("type=cache,target=/c", "type=tmpfs,target=/t"),
                network="none",
            ),
        ),
        ("CMD a b", model.Command(command=["a b"], shell_form=True)),
        ('cmd ["a","b"]', model.Command(command=["a", "b"], shell_form=False)),
        ("CMD", model.Command(command=[], shell_form=True)),
        ("CMD []", model.Command(command=[], shell_form=False)),
        ('ENTRYPOINT ["a"]', model.Entrypoint(command=["a"], shell_form=False)),
        ("ENTRYPOINT a", model.Entrypoint(command=["a"], shell_form=True)),
        ("ENV a=b c='d e'", model.Env(pairs=[("a", "b"), ("c", "'d e'")])),
        ("ENV a b c", model.Env(pairs=[("a", "b c")], old_form=True)),
        ("LABEL a=b", model.Label(pairs=[("a", "b")])),
        ("ARG a", model.Arg(variables=[("a", None)])),
        ("ARG a= b='c d'", model.Arg(variables=[("a", ""), ("b", "'c d'")])),
        ("COPY a b c/", model.Copy(sources=["a", "b"], destination="c/")),
        ('COPY ["a b", "c d"]', model.Copy(sources=["a b"], destination="c d")),
        (
            "COPY --from=x --chown=u:g --chmod=755 --link --parents --exclude=e --exclude=f a b",
            model.Copy(
                sources=["a"],
                destination="b",
                origin="x",
                chown="u:g",
                chmod="755",
                link=True,
                parents=True,
                exclude=("e", "f"),
            ),
        ),
        (
            "ADD --checksum=sha256:1 --keep-git-dir=true --unpack=false http://x/y /z",
            model.Copy(
                sources=["http://x/y"],
                destination="/z",
                add=True,
                checksum="sha256:1",
                keep_git_dir=True,
                unpack=False,
            ),
        ),
        ("EXPOSE 80 443/tcp 1000-1010/udp", model.Expose(ports=["80", "443/tcp", "1000-1010/udp"])),
        ("USER a:b", model.User(user="a:b")),
        ('VOLUME ["/a b", "/c"]', model.Volume(paths=["/a b", "/c"])),
        ("VOLUME /a /c", model.Volume(paths=["/a", "/c"])),
        ("WORKDIR /a b", model.Workdir(path="/a b")),
        ("STOPSIGNAL 9", model.StopSignal(signal="9")),
        ('SHELL ["a", "-c"]', model.ShellCommand(command=["a", "-c"])),
        ("MAINTAINER a b <c>", model.Maintainer(name="a b <c>")),
        ("ONBUILD RUN --network=none x", model.OnBuild(trigger="RUN --network=none x")),
        ("HEALTHCHECK NONE", model.HealthCheck(check=Healthcheck(test=["NONE"]))),
        ("HEALTHCHECK CMD a b", model.HealthCheck(check=Healthcheck(test=["CMD-SHELL", "a b"]))),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=1s --start-interval=300ms"
            ' --retries=3 CMD ["a", "b"]',
            model.HealthCheck(
                check=Healthcheck(
                    test=["CMD", "a", "b"],
                    interval=90 * SECOND,
                    timeout=3 * SECOND // 2,
                    start_period=SECOND,
                    start_interval=3 * SECOND // 10,
                    retries=3,
                )
            ),
        ),
    ],
)
def test_an_instruction_is_read(line: str, expected: model.Instruction) -> None:
    assert parsed(line) == expected


def test_documents_are_no_sources() -> None:
    copy = parsed("COPY a <<B c <<'D' /x/\nb\nB\nd\nD")
    assert copy.sources == ["a", "c"]
    assert [(one.name, one.content) for one in copy.heredocs] == [("B", "b\n"), ("D", "d\n")]
