"""The rules of image names, lists and removals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.engine.images.images import CommitRequest, ImageUse
from sampan.errors import Conflict, InvalidArgument, NotFound, Unavailable
from sampan.spec.image import RunConfig
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from tests import tarballs
from tests.image_shop import Shop, run, stream


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def short(image: str) -> str:
    return image[7:19]


# --- names ---------------------------------------------------------------------------------


def test_an_image_answers_to_its_names_its_id_and_what_its_id_begins_with(shop: Shop) -> None:
    image = shop.make("app:1")
    names = (
        "app:1",
        "docker.io/library/app:1",
        image,
        image[7:],
        image[7:19],
        image[7:10],
        image[:20],
    )
    assert {run(shop.images.resolve(name)).id for name in names} == {image}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("nope", "nope:latest"),
        ("nope:1", "nope:1"),
        ("app", "app:latest"),
        ("ffffffffffff", "f" * 12 + ":latest"),
    ],
)
def test_an_unknown_image_is_named_as_docker_names_it(shop: Shop, name: str, shown: str) -> None:
    shop.make("app:1")
    with pytest.raises(NotFound) as failure:
        run(shop.images.resolve(name))
    assert str(failure.value) == f"No such image: {shown}"


def test_an_id_that_begins_two_images_is_none(shop: Shop) -> None:
    for count in range(17):
        shop.make(f"app:{count}")
    first = [image[7] for image in shop.images.store.images]
    twice = next(digit for digit in first if first.count(digit) > 1)
    with pytest.raises(NotFound):
        run(shop.images.resolve(twice))


def test_an_image_of_another_platform_is_not_found(shop: Shop) -> None:
    shop.make("app", platform=Platform.parse("linux/s390x"))
    with pytest.raises(
        NotFound, match=r"was found but its platform \(linux/s390x\) does not match"
    ):
        run(shop.images.resolve("app", Platform.parse("linux/amd64")))


def test_a_tag_moves_to_another_image(shop: Shop) -> None:
    one, two = shop.make("app"), shop.make("other")
    run(shop.images.tag("other", "app", "latest"))
    assert run(shop.images.resolve("app")).id == two
    assert shop.images.references(one) == []
    assert shop.listed() == sorted(["app:latest", "other:latest", short(one)])
    assert ("tag", "app:latest") in shop.events


def test_a_tag_that_looks_like_a_digest_is_refused(shop: Shop) -> None:
    shop.make("app")
    with pytest.raises(InvalidArgument, match="refusing to create an ambiguous tag"):
        run(shop.images.tag("app", "sha256", "abc"))
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        run(shop.images.tag("app", "Not Valid", ""))
    with pytest.raises(NotFound):
        run(shop.images.tag("nope", "x", ""))


def test_everything_is_there_after_a_restart(shop: Shop) -> None:
    base = shop.make("app:1", changes=["LABEL a=b"])
    child = shop.build("app:1", b"more", "app:2")
    before = run(shop.images.summaries({}, all=True))
    shop.close()
    shop.open()
    assert run(shop.images.summaries({}, all=True)) == before
    image = shop.images.get(child)
    assert image is not None
    assert image.parent == base
    assert shop.remove("app:2")[0] == "Untagged: app:2"


# --- lists ---------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_has_dockers_fields(shop: Shop) -> None:
    for name in ("a", "b", "c"):
        shop.make(name)
    summaries = run(shop.images.summaries({}))
    assert [item.created for item in summaries] == sorted(
        (item.created for item in summaries), reverse=True
    )
    body = msgspec.json.decode(msgspec.json.encode(summaries[0]))
    assert set(body) == {
        "Containers", "Created", "Id", "Labels", "ParentId", "RepoDigests", "RepoTags",
        "SharedSize", "Size",
    }  # fmt: skip
    assert (body["SharedSize"], body["Containers"]) == (-1, 0)


def test_filters_narrow_the_list(shop: Shop) -> None:
    shop.make("app:1", changes=["LABEL stage=test"])
    shop.make("app:2", changes=["LABEL stage=live"])
    nameless = short(shop.make(content=b"nameless"))
    assert shop.listed(reference="app") == ["app:1", "app:2"]
    assert shop.listed(reference="app:1") == ["app:1"]
    assert shop.listed(reference=["app:1", "*:2"]) == ["app:1", "app:2"]
    assert shop.listed(reference="docker.io/library/a*:2") == ["app:2"]
    assert shop.listed(label="stage") == ["app:1", "app:2"]
    assert shop.listed(label="stage=live") == ["app:2"]
    assert shop.listed(dangling="true") == [nameless]
    assert shop.listed(dangling="false") == ["app:1", "app:2"]
    assert shop.listed(before="app:2") == ["app:1"]
    assert shop.listed(since="app:1") == sorted(["app:2", nameless])
    assert shop.listed(until="1h") == []
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        shop.listed(x="y")
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        shop.listed(before="nope")


def test_intermediate_images_are_listed_only_with_all(shop: Shop) -> None:
    base = shop.make(content=b"base")
    shop.build(base, b"more", "app")
    assert shop.listed() == ["app:latest"]
    assert shop.listed(all=True) == sorted(["app:latest", short(base)])
    assert shop.listed(dangling="true") == []


def test_shared_sizes_count_the_layers_of_several_images(shop: Shop) -> None:
    shop.make("base")
    shop.build("base", b"one", "one")
    shop.uses.append(ImageUse("c" * 64, run(shop.images.resolve("one")).id, True))
    items = {item.repo_tags[0]: item for item in run(shop.images.summaries({}, shared_size=True))}
    assert items["base:latest"].shared_size == items["base:latest"].size
    assert items["one:latest"].shared_size == items["base:latest"].size
    assert items["one:latest"].size > items["base:latest"].size
    assert (items["one:latest"].containers, items["base:latest"].containers) == (1, 0)
    assert shop.images.layers_size() == items["one:latest"].size


def test_inspect_has_dockers_fields(shop: Shop) -> None:
    changes = ['CMD ["sh"]', "ENV A=1", "EXPOSE 80", "HEALTHCHECK CMD true"]
    image = shop.make("app:1", changes=changes, message="made by a test")
    body = msgspec.json.decode(msgspec.json.encode(run(shop.images.inspect("app:1"))))
    assert body["Id"] == image
    assert body["RepoTags"] == ["app:1"]
    assert body["RepoDigests"] == []
    assert body["Comment"] == "made by a test"
    assert body["Os"] == "linux"
    assert body["Config"] == {
        "Cmd": ["sh"],
        "Env": ["A=1"],
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
        "Entrypoint": None,
        "Labels": None,
        "OnBuild": None,
        "User": "",
        "Volumes": None,
        "WorkingDir": "",
    }
    assert body["RootFS"] == {"Type": "layers", "Layers": shop.chains("app:1")}
    assert body["GraphDriver"]["Name"] == "overlay"
    assert body["Metadata"]["LastTagTime"].startswith("20")
    assert body["Created"].endswith("Z")


def test_history_is_newest_first_and_names_the_images_of_this_engine(shop: Shop) -> None:
    base = shop.make("base", message="imported")
    top = shop.build("base", b"more", "top:1")
    steps = run(shop.images.history("top:1"))
    assert [(step.id, step.tags) for step in steps] == [(top, ["top:1"]), (base, ["base:latest"])]
    assert steps[1].comment == "imported"
    assert all(step.size > 0 for step in steps)


# --- removal -------------------------------------------------------------------------------


def test_the_last_name_takes_the_image_with_it(shop: Shop) -> None:
    image = shop.make("app:1")
    (layer,) = shop.chains("app:1")
    run(shop.images.tag("app:1", "app", "2"))
    assert shop.remove("app:1") == ["Untagged: app:1"]
    assert shop.remove("app:2") == ["Untagged: app:2", f"Deleted: {image}", f"Deleted: {layer}"]
    assert shop.mounter.parents == {}
    assert shop.blobs() == set()
    assert [action for action, _ in shop.events][-3:] == ["untag", "untag", "delete"]


def test_an_image_is_removed_by_id_if_it_has_one_name(shop: Shop) -> None:
    image = shop.make("app:1")
    assert shop.remove(image[7:19])[:2] == ["Untagged: app:1", f"Deleted: {image}"]


def test_an_image_of_two_names_is_removed_by_id_only_by_force(shop: Shop) -> None:
    image = shop.make("app:1")
    run(shop.images.tag("app:1", "other", ""))
    with pytest.raises(Conflict) as failure:
        shop.remove(image)
    assert str(failure.value) == (
        f"conflict: unable to delete {short(image)} (must be forced) -"
        " image is referenced in multiple repositories"
    )
    assert shop.remove(image, force=True)[:3] == [
        "Untagged: app:1",
        "Untagged: other:latest",
        f"Deleted: {image}",
    ]


def test_an_image_of_a_container_keeps_its_last_name(shop: Shop) -> None:
    image = shop.make("app:1")
    shop.uses.append(ImageUse("c" * 64, image, running=False))
    with pytest.raises(Conflict) as failure:
        shop.remove("app:1")
    assert str(failure.value) == (
        'conflict: unable to remove repository reference "app:1" (must force) -'
        f" container {'c' * 12} is using its referenced image {short(image)}"
    )
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped"):
        shop.remove(image)
    assert shop.listed() == ["app:1"]


def test_an_image_of_a_running_container_cannot_be_deleted_even_by_force(shop: Shop) -> None:
    image = shop.make("app:1")
    shop.uses.append(ImageUse("c" * 64, image, running=True))
    with pytest.raises(Conflict) as failure:
        shop.remove(image, force=True)
    assert str(failure.value) == (
        f"conflict: unable to delete {short(image)} (cannot be forced) -"
        f" image is being used by running container {'c' * 12}"
    )
    assert shop.remove("app:1", force=True) == ["Untagged: app:1"]
    assert shop.images.get(image) is not None


def test_layers_under_a_container_stay_until_they_are_collected(shop: Shop) -> None:
    image = shop.make("app:1")
    (layer,) = shop.chains("app:1")
    shop.mounter.prepare("box", layer)
    shop.uses.append(ImageUse("box", image, running=False))
    assert shop.remove("app:1", force=True) == ["Untagged: app:1", f"Deleted: {image}"]
    assert run(shop.images.collect()) == []
    shop.mounter.remove("box")
    assert run(shop.images.collect()) == [layer]
    assert shop.mounter.parents == {}


def test_a_layer_that_vanished_before_its_row_is_forgotten(shop: Shop) -> None:
    image = shop.make("app:1")
    (layer,) = shop.chains("app:1")
    shop.mounter.prepare("box", layer)
    shop.uses.append(ImageUse("box", image, running=False))
    shop.remove("app:1", force=True)
    shop.mounter.remove("box")
    shop.mounter.remove(layer)
    assert shop.images.layers_size() > 0
    run(shop.images.collect())
    assert shop.images.layers_size() == 0


def test_an_image_with_children_cannot_be_deleted(shop: Shop) -> None:
    base = shop.make("base")
    shop.build("base", b"more", "child")
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image has dependent child images"):
        shop.remove(base, force=True)
    assert shop.remove("base") == ["Untagged: base:latest"]
    removed = shop.remove("child")
    assert f"Deleted: {base}" in removed
    assert shop.mounter.parents == {}


def test_parents_stay_with_noprune(shop: Shop) -> None:
    base = shop.make(content=b"base")
    shop.build(base, b"more", "child")
    shop.remove("child", prune_parents=False)
    assert shop.images.get(base) is not None


def test_removing_what_is_not_there_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        shop.remove("nope")


def test_prune_removes_images_without_a_name_and_with_all_the_unused_ones(shop: Shop) -> None:
    used = shop.make("used")
    shop.uses.append(ImageUse("c" * 64, used, running=False))
    shop.make("unused", changes=["LABEL keep=yes"])
    nameless = shop.make(content=b"x" * 5000)
    report = run(shop.images.prune({}))
    deleted = [item.deleted for item in report.images_deleted or []]
    assert nameless in deleted
    assert report.space_reclaimed > 5000
    assert (
        run(shop.images.prune({"dangling": ["false"], "label!": ["keep"]})).images_deleted is None
    )
    assert shop.listed() == ["unused:latest", "used:latest"]
    run(shop.images.prune({"dangling": ["false"]}))
    assert shop.listed() == ["used:latest"]
    assert shop.events[-1] == ("prune", "")
    with pytest.raises(InvalidArgument, match="more than one until filter"):
        run(shop.images.prune({"until": ["1h", "2h"]}))


def test_two_prunes_at_once_are_refused(shop: Shop) -> None:
    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(shop.images.prune({}))
            await asyncio.sleep(0)
            with pytest.raises(Conflict, match="a prune operation is already running"):
                await shop.images.prune({})

    run(both())


# --- import and commit -----------------------------------------------------------------------


def test_an_import_that_breaks_off_leaves_nothing(shop: Shop) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run(shop.images.import_(broken(), None))
    with pytest.raises(InvalidArgument):
        shop.make("app", changes=["RUN make"])
    with pytest.raises(InvalidArgument, match="operating system is not supported"):
        shop.make("app", platform=Platform("windows", "amd64"))
    assert shop.blobs() == set()
    assert shop.listed() == []


def test_a_cancelled_import_leaves_nothing(shop: Shop) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await shop.images.import_(endless(), None)

    run(cancelled())
    assert shop.blobs() == set()


def test_the_same_archive_twice_shares_its_layer(shop: Shop) -> None:
    content = tarballs.archive(tarballs.file("f", b"same"))
    one = run(shop.images.import_(stream(content), None, message="1"))
    two = run(shop.images.import_(stream(content), None, message="2"))
    assert one != two
    assert len(shop.mounter.parents) == 1
    shop.remove(one)
    assert len(shop.mounter.parents) == 1
    shop.remove(two)
    assert shop.mounter.parents == {}


def test_a_commit_stands_on_the_containers_image(shop: Shop) -> None:
    base = shop.make("base", changes=["ENV A=1", 'CMD ["sh"]'])
    image = run(shop.images.resolve("base"))
    shop.mounter.prepare("box", image.chain_id)
    shop.mounter.changed["box"] = tarballs.archive(tarballs.file("new"))
    request = CommitRequest(
        container="box",
        image=base,
        config=image.config.run,
        override=RunConfig(labels={"x": "y"}),
        changes=["ENV B=2"],
        author="Ada",
        comment="first",
    )
    made = shop.images.get(run(shop.images.commit(request)))
    assert made is not None
    assert made.parent == base
    assert made.config.diff_ids[:1] == image.config.diff_ids
    assert len(made.config.diff_ids) == 2
    assert made.config.run.env == ["B=2", "A=1"]
    assert made.config.run.cmd == ["sh"]
    assert made.config.author == "Ada"
    step = (made.config.history or [])[-1]
    assert (step.author, step.comment, step.created_by, step.empty_layer) == (
        "Ada",
        "first",
        "sh",
        False,
    )


def test_a_commit_of_nothing_adds_no_layer(shop: Shop) -> None:
    shop.make("base")
    made = shop.images.get(shop.build("base", b"", "same"))
    assert made is not None
    assert made.config.diff_ids == run(shop.images.resolve("base")).config.diff_ids
    assert (made.config.history or [])[-1].empty_layer


def test_a_crash_between_layer_and_image_is_cleaned_up(shop: Shop) -> None:
    shop.make("app")
    stray = tarballs.archive(tarballs.file("stray"))
    shop.mounter.parents[tarballs.chain(stray)] = None
    shop.mounter.committed[tarballs.chain(stray)] = stray
    assert run(shop.images.collect()) == [tarballs.chain(stray)]
    assert shop.listed() == ["app:latest"]


# --- changes at once -------------------------------------------------------------------------


def test_a_name_that_goes_and_comes_at_once_is_the_same_on_disk(shop: Shop) -> None:
    shop.make("app")
    other = shop.make("other")
    table = shop.images.store._database
    delete, began, named = table.delete_references, threading.Event(), threading.Event()

    def slowly(references: Iterable[str], going: Iterable[str] = ()) -> None:
        delete(references, going)
        began.set()
        named.wait(0.2)  # for the other, if it does not wait for this one

    async def both() -> None:
        table.delete_references = slowly  # type: ignore[method-assign]
        going = asyncio.ensure_future(shop.images.store.untag(Reference.parse("app:latest")))
        await asyncio.to_thread(began.wait)
        await shop.images.store.tag(other, Reference.parse("app:latest"))
        named.set()
        await going

    run(both())
    known = shop.images.references(other)
    shop.close()
    shop.open()
    assert shop.images.references(other) == known


def test_an_image_that_goes_gets_no_parent(shop: Shop) -> None:
    base, child = shop.make("base"), shop.make("child")
    shop.remove("child")
    run(shop.images.store.set_parent(child, base))
    assert shop.images.get(child) is None
    shop.close()
    shop.open()
    assert shop.images.store.broken == {}


@pytest.mark.parametrize("how", ["import", "commit"])
def test_a_prune_does_not_take_an_image_that_is_about_to_get_its_name(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    shop.make("base")
    tag = shop.images.store.tag

    async def prune_first(id: str, reference: Reference) -> None:
        await shop.images.prune({})
        await tag(id, reference)

    monkeypatch.setattr(shop.images.store, "tag", prune_first)
    if how == "import":
        shop.make("app")
    else:
        shop.build("base", b"more", "app")
    assert "app:latest" in shop.listed()


def test_a_container_whose_image_was_removed_cannot_be_committed(shop: Shop) -> None:
    image = shop.make("base")
    shop.mounter.prepare("box", shop.chains("base")[0])
    shop.remove("base")
    request = CommitRequest(container="box", image=image, config=RunConfig())
    with pytest.raises(NotFound, match=f"No such image: {image}"):
        run(shop.images.commit(request))
    assert shop.listed(all=True) == []


# --- collections -----------------------------------------------------------------------------


def test_what_a_failed_collection_left_goes_with_the_next_intake(shop: Shop) -> None:
    run(shop.images.remove(shop.make("other")))  # a whole intake, and nothing is left
    shop.mounter.committed["sha256:" + "a" * 64] = b"left"
    shop.mounter.parents["sha256:" + "a" * 64] = None
    remove = shop.mounter.remove

    def fail(key: str) -> None:
        shop.mounter.remove = remove
        raise Unavailable("the helper has ended")

    shop.mounter.remove = fail
    with pytest.raises(Unavailable):
        run(shop.images.collect())
    shop.make("app")
    assert set(shop.mounter.committed) == set(shop.chains("app"))


def test_a_layer_whose_parent_is_lost_is_collected(shop: Shop) -> None:
    shop.mounter.committed["sha256:" + "a" * 64] = b"left"
    shop.mounter.parents["sha256:" + "a" * 64] = "sha256:" + "b" * 64
    assert "sha256:" + "a" * 64 in run(shop.images.collect())
    assert shop.mounter.committed == {}
