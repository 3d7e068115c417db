"""Named contexts take the place of stages and images."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.build.contexts.named import Names
from sampan.build.dockerfiles.dockerfile import parse_dockerfile
from sampan.build.files.tree import Tree
from sampan.build.state import State
from sampan.build.worker import Nobody
from sampan.errors import InvalidArgument, NotFound, SampanError, Unsupported
from sampan.spec.build import Repository
from sampan.spec.platform import Platform
from tests import tarballs
from tests.build_worker import Yard


class Client(Nobody):
    """A client with folders, a content store, and results."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[bytes, bytes]] = {}
        self.results: dict[str, State] = {}
        self.asked: list[str] = []

    async def folder(self, name: str, tree: Tree) -> None:
        self.asked.append(name)
        if name not in self.folders:
            await super().folder(name, tree)
        for path, content in self.folders[name].items():
            tree.write(path, content, mtime=len(self.asked))

    async def layout(self, store: str, digest: str, platform: Platform | None) -> Any:
        self.asked.append(f"{store}@{digest}")
        yield b"archive"

    def result(self, name: str) -> State:
        return self.results[name]


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have("box", tarballs.file("etc/passwd", b"root:x:0:0"), env=["A=b"])
    yard.client = Client()
    return yard


@pytest.mark.parametrize(
    ("given", "asked", "found"),
    [
        ("alpine", "alpine", True),
        ("alpine", "alpine:latest", True),
        ("alpine:latest", "docker.io/library/alpine", True),
        ("alpine", "alpine:3", False),
        ("host:5000/a", "host:5000/a:latest", True),
        ("base::linux/arm64", "base", False),
        ("base", "other", False),
    ],
)
def test_names_are_compared_as_those_of_images(given: str, asked: str, found: bool) -> None:
    assert (Names({given: "local:x"}).find(asked) is not None) is found


def test_a_name_may_be_meant_for_one_platform() -> None:
    names = Names({"base": "local:a", "base::linux/arm64": "local:b"})
    arm = names.find("base", Platform.parse("linux/arm64"))
    assert arm is not None
    assert arm.what == "local:b"


def test_a_stage_that_a_context_stands_for_is_not_built() -> None:
    dockerfile = parse_dockerfile(b"FROM a AS One\nRUN x\nFROM one\nRUN y")
    Names({"one": "local:x"}).override(dockerfile)
    first, second = dockerfile.stages
    assert (first.begin.image, first.instructions) == ("one", [])
    assert len(second.instructions) == 1


def test_a_folder_is_there_for_stages_copies_and_mounts(yard: Yard) -> None:
    yard.client.folders = {"lib": {b"f": b"content"}}
    yard.built(
        "FROM none AS replaced\nRUN fail 1\n"
        "FROM box\nCOPY --from=lib /f /a\nCOPY --from=replaced /f /b\n"
        "RUN --mount=from=lib,target=/m write /c text\nFROM lib\nCOPY --from=1 /a /b /c /all/",
        contexts={"lib": "local:lib", "replaced": "local:lib"},
    )  # fmt: skip
    assert yard.content("/f") == b"content"
    assert yard.content("/all/a") == yard.content("/all/b") == b"content"
    assert yard.client.asked == ["lib", "lib"]  # once for each name
    assert len(yard.worker.mounted) == 1


def test_only_other_contents_of_a_folder_make_something_new(yard: Yard) -> None:
    text, contexts = "FROM lib\nRUN write /a b", {"lib": "local:lib"}
    yard.client.folders = {"lib": {b"f": b"1"}}
    yard.built(text, contexts=contexts)
    first = yard.made.diff_ids
    assert "Using cache" in yard.built(text, contexts=contexts)
    assert yard.made.diff_ids == first
    yard.client.folders = {"lib": {b"f": b"2"}}
    assert "Using cache" not in yard.built(text, contexts=contexts)
    assert yard.made.diff_ids != first


def test_an_image_may_stand_for_another(yard: Yard) -> None:
    yard.built(
        "FROM missing:1 AS a\nRUN write /a x\nFROM scratch\nCOPY --from=other /etc/passwd /p",
        contexts={"missing:1": "docker-image://box", "other": "docker-image://box:latest"},
        target="a",
    )
    assert "A=b" in (yard.made.run.env or [])
    yard.worker.images["box:latest"] = yard.worker.images["box"]
    yard.built("FROM scratch\nCOPY --from=other /etc/passwd /p",
               contexts={"other": "docker-image://box:latest"})  # fmt: skip
    assert yard.content("/p").startswith(b"root")


def test_scratch_may_stand_for_an_image(yard: Yard) -> None:
    yard.built("FROM box\nCOPY Dockerfile /", contexts={"box": "docker-image://scratch"})
    assert list(yard.files()) == ["/Dockerfile"]


def test_repositories_and_pages_are_fetched(yard: Yard) -> None:
    archive = tarballs.archive(tarballs.file("f", b"git"))
    yard.worker.repositories[Repository(url="https://host/x.git", ref="main")] = archive
    yard.worker.pages["https://host/page"] = b"page"
    yard.built(
        "FROM scratch\nCOPY --from=a /f /\nCOPY --from=b /context /p",
        contexts={"a": "https://host/x.git#main", "b": "https://host/page"},
    )
    assert (yard.content("/f"), yard.content("/p")) == (b"git", b"page")


def test_an_image_of_a_layout_is_loaded_and_has_no_name(yard: Yard) -> None:
    where = "oci-layout://store:tag@sha256:" + "a" * 64
    yard.built("FROM lay\nRUN write /x y", contexts={"lay": where})
    assert yard.content("/loaded") == b"archive"
    assert yard.client.asked == ["store@sha256:" + "a" * 64]
    assert "loaded" not in yard.worker.images


def test_a_result_of_another_build_goes_on(yard: Yard) -> None:
    base = State.of(yard.worker.images["box"])
    yard.client.results["r"] = base
    yard.built("FROM given\nRUN write /x y", contexts={"given": "result:r"})
    assert yard.content("/etc/passwd").startswith(b"root")


@pytest.mark.parametrize(
    ("what", "kind", "sentence"),
    [
        ("nothing", InvalidArgument, "invalid context specifier nothing for lib"),
        ("other:x", Unsupported, "unsupported context source other for lib"),
        ("oci-layout://store", InvalidArgument, 'oci-layout reference "store" has no digest'),
        ("local:missing", NotFound, 'no access allowed to dir "missing"'),
        ("docker-image://missing", NotFound, "No such image: missing"),
        ("https://host/missing", NotFound, "404 Not Found"),
    ],
)
def test_what_cannot_be_had_is_named(
    yard: Yard, what: str, kind: type[SampanError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        yard.built("FROM lib\nRUN write /x y", contexts={"lib": what})


def test_what_nobody_uses_is_not_fetched(yard: Yard) -> None:
    yard.built("FROM box\nRUN write /x y", contexts={"lib": "local:missing"})
    assert yard.client.asked == []


def test_only_the_stages_that_are_named_are_made_again(yard: Yard) -> None:
    text = "FROM box AS One\nRUN write /a 1\nFROM box AS two\nRUN write /b 2\nFROM one\nCOPY --from=two /b /"  # noqa: E501
    yard.built(text)
    count = len(yard.worker.steps)
    yard.built(text, no_cache_stages=["one"])
    assert [step.command[-1] for step in yard.worker.steps[count:]] == ["write /a 1"]
