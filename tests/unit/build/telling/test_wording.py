"""The history of images, in the words of either builder.

BuildKit's are those of images that are on Docker Hub, or of its source.
"""

from __future__ import annotations

import pytest

from tests import tarballs
from tests.build_worker import Yard

PASSWD = tarballs.file("etc/passwd", b"root:x:0:0::/:\nweb:x:33:44::/:\n")


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have("box", tarballs.folder("etc"), PASSWD)
    return yard


def told(yard: Yard, text: str, *files: bytes, **options: object) -> list[tuple[str, bool]]:
    """Build as for a client of BuildKit; return words, and whether there was a layer."""
    said = yard.built(text, *files, buildkit=True, **options)
    assert "Successfully built" in said, said
    history = yard.made.history or []
    assert {one.comment for one in history} <= {"buildkit.dockerfile.v0"}
    assert not any(one.author for one in history)
    return [(one.created_by, not one.empty_layer) for one in history]


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("ENV PATH=/usr/local/bin:$PATH A='b c'", "ENV PATH=/usr/local/bin:/usr/local/sbin:"
         "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin A=b c"),
        ("LABEL maintainer='NGINX Docker Maintainers <docker-maint@nginx.com>'",
         "LABEL maintainer=NGINX Docker Maintainers <docker-maint@nginx.com>"),
        ('CMD ["nginx", "-g", "daemon off;"]', 'CMD ["nginx" "-g" "daemon off;"]'),
        ("CMD sleep 1", 'CMD ["/bin/sh" "-c" "sleep 1"]'),
        ('ENTRYPOINT ["docker-entrypoint.sh"]', 'ENTRYPOINT ["docker-entrypoint.sh"]'),
        ("EXPOSE 5432", "EXPOSE [5432/tcp]"),
        ("EXPOSE 90/udp 80-81", "EXPOSE [90/udp 80/tcp 81/tcp]"),
        ("VOLUME /var/lib/postgresql/data", "VOLUME [/var/lib/postgresql/data]"),
        ("STOPSIGNAL SIGINT", "STOPSIGNAL SIGINT"),
        ("USER 1000:1000", "USER 1000:1000"),
        ('SHELL ["/bin/bash", "-o", "pipefail", "-c"]', "SHELL [/bin/bash -o pipefail -c]"),
        ("MAINTAINER me", "MAINTAINER me"),
        ("HEALTHCHECK --interval=5m --timeout=3s --retries=2 CMD curl -f http://localhost/",
         "HEALTHCHECK {Test:[CMD-SHELL curl -f http://localhost/] Interval:5m0s Timeout:3s"
         " StartPeriod:0s StartInterval:0s Retries:2}"),
        ("WORKDIR /", "WORKDIR /"),
        ("ARG A=1 B", "ARG A=1 B=given"),
    ],
)  # fmt: skip
def test_a_change_of_the_configuration_is_told_as_it_is(
    yard: Yard, instruction: str, words: str
) -> None:
    made = told(yard, f"FROM box\n{instruction}\nUSER 0", arguments={"B": "given"})
    assert made == [(words, False), ("USER 0", False)]


@pytest.mark.parametrize("instruction", ["ONBUILD RUN print x", "ARG A\nONBUILD USER 7"])
def test_a_trigger_is_no_step(yard: Yard, instruction: str) -> None:
    made = told(yard, f"FROM box\n{instruction}\nUSER 0")
    assert [words for words, _ in made if words != "ARG A"] == ["USER 0"]
    assert yard.made.run.on_build


def test_labels_of_the_client_are_no_step(yard: Yard) -> None:
    assert told(yard, "FROM box\nUSER 0", labels={"a": "b"}) == [("USER 0", False)]
    assert yard.made.run.labels == {"a": "b"}


def test_what_changes_files_is_told_with_the_name_of_the_builder(yard: Yard) -> None:
    text = (
        "FROM box\nARG B=2\nARG A=1\nARG C\nENV B=3\nRUN write /x y\n"
        "COPY --chown=web --chmod=600 f g /d/\nWORKDIR d\nADD --link f .\nCOPY --parents f /p/\n"
        "COPY <<one <<two /docs/\n1\none\n2\ntwo\n"
        "RUN print hi"
    )
    made = told(yard, text, tarballs.file("f"), tarballs.file("g"))
    assert made[4:] == [
        ("RUN |3 B=3 A=1 C= /bin/sh -c write /x y # buildkit", True),
        ("COPY --chown=web --chmod=600 f g /d/ # buildkit", True),
        ("WORKDIR /d", False),
        ("ADD f . # buildkit", True),
        ("COPY --parents f /p/ # buildkit", True),
        ("COPY <<one <<two /docs/ # buildkit", True),
        ("RUN |3 B=3 A=1 C= /bin/sh -c print hi # buildkit", False),
    ]


def test_a_stage_knows_the_arguments_of_the_one_below(yard: Yard) -> None:
    made = told(yard, "FROM box AS one\nARG A=1\nFROM one\nARG B=2\nARG A=3\nRUN print x")
    assert made[-1][0] == "RUN |2 A=3 B=2 /bin/sh -c print x # buildkit"


def test_steps_of_one_builder_are_found_by_the_other(yard: Yard) -> None:
    text = "FROM box\nRUN write /x y\nENV A=b\nWORKDIR /w\nCOPY f /d\nRUN print hi\nCMD z"
    yard.built(text, tarballs.file("f"))
    layers, made = yard.made.diff_ids, yard.worker.made
    again = yard.built(text, tarballs.file("f"), buildkit=True)
    assert (yard.made.diff_ids, yard.worker.made) == (layers, made)
    assert len(yard.worker.steps) == 2
    assert again.count("Using cache") >= 4
    image = yard.worker.images["made"].id
    yard.built(text, tarballs.file("f"), buildkit=True)
    assert yard.worker.images["made"].id == image


def test_a_name_of_the_machine_is_given_by_the_client_alone(yard: Yard) -> None:
    yard.built("FROM box\nRUN print x", buildkit=True)
    assert [step.hostname for step in yard.worker.steps] == ["buildkitsandbox"]
    for options in ({"hostname": "h"}, {"arguments": {"BUILDKIT_SANDBOX_HOSTNAME": "i"}}):
        assert "Using cache" not in yard.built("FROM box\nRUN print x", **options)
    assert [step.hostname for step in yard.worker.steps] == ["buildkitsandbox", "h", "i"]


def test_a_working_folder_belongs_to_the_user(yard: Yard) -> None:
    text = "FROM box\nUSER web\nWORKDIR /w/below\nUSER 7:8\nWORKDIR /v\nUSER 0\nWORKDIR /u"
    yard.built(text)
    owners = {path: (it.uid, it.gid) for path, (it, _) in yard.files().items()}
    assert {path: owners[path] for path in ("/w", "/w/below", "/v", "/u")} == {
        "/w": (33, 44), "/w/below": (33, 44), "/v": (7, 8), "/u": (0, 0)}  # fmt: skip
    yard.built("FROM box\nUSER unknown\nWORKDIR /w")
    assert yard.files()["/w"][0].uid == 0
