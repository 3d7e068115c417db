"""A build uses only what its client allows."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sampan.build.policing import Ask, Facts, Source
from sampan.build.worker import Nobody
from sampan.errors import Forbidden, Unsupported
from sampan.spec.platform import Platform
from tests import tarballs
from tests.build_worker import Yard

BOX = "docker-image://docker.io/library/box:latest"


@dataclass
class Decided:
    """A policy that refuses and replaces by name."""

    refused: list[str] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    curious: bool = False
    asked: list[str] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)

    async def judge(
        self, source: Source, platform: Platform | None = None, ask: Ask | None = None
    ) -> Source:
        self.asked.append(source.identifier)
        if self.curious and ask:
            self.facts.append(await ask())
        if source.identifier in self.refused:
            raise Forbidden(source.identifier)
        return Source(self.replaced.get(source.identifier, source.identifier))


@pytest.fixture
def policy() -> Decided:
    return Decided()


@pytest.fixture
def yard(policy: Decided) -> Yard:
    yard = Yard()
    yard.worker.have("box", tarballs.file("box", b"box"))
    yard.worker.have("other", tarballs.file("other", b"other"))
    yard.worker.pages["http://host/page"] = b"page"
    yard.client = client = Nobody()
    client.policy = policy
    return yard


def test_a_policy_is_asked_about_images_and_pages(yard: Yard, policy: Decided) -> None:
    yard.built(
        "FROM box\nADD http://host/page /p\nCOPY --from=other /other /o\n"
        "RUN --mount=from=other,target=/m print x"
    )
    other = "docker-image://docker.io/library/other:latest"
    assert set(policy.asked) == {BOX, other, "http://host/page"}


@pytest.mark.parametrize("source", [BOX, "http://host/page"])
def test_what_is_refused_is_not_fetched(yard: Yard, policy: Decided, source: str) -> None:
    policy.refused = [source]
    with pytest.raises(Forbidden, match=source):
        yard.built("FROM box\nADD http://host/page /p")
    assert yard.worker.reads == 1  # of the build's own context


def test_what_was_built_before_is_asked_about_again(yard: Yard, policy: Decided) -> None:
    yard.built("FROM box\nRUN print a")
    policy.refused = [BOX]
    with pytest.raises(Forbidden):
        yard.built("FROM box\nRUN print a")


def test_an_image_can_take_the_place_of_another(yard: Yard, policy: Decided) -> None:
    policy.replaced = {BOX: "docker-image://other"}
    yard.built("FROM box\nRUN write /x y")
    assert {"/other", "/x"} == set(yard.files())
    policy.replaced = {BOX: "http://host/page"}
    with pytest.raises(Unsupported, match="only images can be replaced by images"):
        yard.built("FROM box\nRUN print a")


def test_a_policy_can_know_what_an_image_is(yard: Yard, policy: Decided) -> None:
    policy.curious = True
    yard.built("FROM box\nRUN print a")
    [facts] = policy.facts
    assert b"2020-01-01T00:00:00Z" in facts.config
