"""Retention: what the rules say goes, what is protected stays, what is attached goes along."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.drivers.objects.bucket import Entry
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.patterns import Pattern, any_matches
from sampan.registry.registry import Registry
from sampan.registry.upkeep.retention import Removed, Rule, Tag, outdated, subject_of, tag_pattern
from sampan.spec.image import MEDIA_MANIFEST
from tests.memory_bucket import MemoryBucket
from tests.own_registry import Shop, serving

NOW = 1_000_000.0
HOUR = 3600.0


def rule(**more: Any) -> Rule:
    given = {"repositories": ["**"], "tags": ["*"], "protected": [], **more}
    for key in ("repositories", "tags", "protected"):
        given[key] = [Pattern(text) for text in given[key]]
    return Rule(**given)


def tags(*ages: float, prefix: str = "t") -> list[Tag]:
    return [Tag(f"{prefix}{n}", f"sha256:{n:064}", NOW - age) for n, age in enumerate(ages)]


def names(found: list[Tag]) -> list[str]:
    return [tag.name for tag in found]


def test_the_newest_are_kept() -> None:
    assert names(outdated(tags(1, 2, 3, 4), rule(last=2), NOW)) == ["t3", "t2"]
    assert names(outdated(tags(1, 2), rule(last=5), NOW)) == []
    assert len(outdated(tags(1, 2), rule(last=0), NOW)) == 2


def test_the_young_are_kept() -> None:
    assert names(outdated(tags(1, 20, 30), rule(within=10), NOW)) == ["t2", "t1"]


def test_either_reason_keeps_a_tag() -> None:
    assert names(outdated(tags(1, 2, 30, 40), rule(last=3, within=10), NOW)) == ["t3"]
    assert names(outdated(tags(1, 2, 3, 40), rule(last=1, within=10), NOW)) == ["t3"]


def test_only_tags_of_the_patterns_go_and_never_protected_ones() -> None:
    found = [*tags(5, 6, prefix="pr-"), *tags(7, 8, prefix="v"), *tags(9, prefix="latest")]
    assert names(outdated(found, rule(last=0, tags=["pr-*"]), NOW)) == ["pr-1", "pr-0"]
    gone = names(outdated(found, rule(last=0, protected=["v?", "latest*"]), NOW))
    assert gone == ["pr-1", "pr-0"]


def test_a_rule_about_untagged_manifests_removes_no_tag() -> None:
    assert outdated(tags(1, 2), rule(untagged=10), NOW) == []


def test_a_rule_that_keeps_everything_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="keeps everything"):
        rule()
    for text in ("a/b", "$user", ""):
        with pytest.raises(InvalidArgument):
            tag_pattern(text)


DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("tag", "subject"),
    [
        (f"sha256-{DIGEST}.sig", f"sha256:{DIGEST}"),
        (f"sha256-{DIGEST}.sbom", f"sha256:{DIGEST}"),
        (f"sha256-{DIGEST}", f"sha256:{DIGEST}"),
        (f"sha512-{DIGEST}{DIGEST}.att", f"sha512:{DIGEST}{DIGEST}"),
        ("sha256-abc.sig", ""),
        (f"x-sha256-{DIGEST}.sig", ""),
        ("latest", ""),
    ],
)
def test_tags_of_what_is_attached_are_known(tag: str, subject: str) -> None:
    assert subject_of(tag) == subject


@given(
    st.lists(st.tuples(st.sampled_from(["v1", "v2", "pr", "x"]), st.floats(0, 100)), max_size=12),
    st.none() | st.integers(0, 5),
    st.none() | st.floats(0, 100),
)
def test_what_is_kept_has_a_reason_and_what_goes_has_none(
    given_tags: list[tuple[str, float]], last: int | None, within: float | None
) -> None:
    everything = [
        Tag(f"{prefix}-{n}", "sha256:x", NOW - age) for n, (prefix, age) in enumerate(given_tags)
    ]
    wanted = rule(last=last, within=within, untagged=1, protected=["v1*"], tags=["v*", "pr*"])
    gone = outdated(everything, wanted, NOW)
    if last is None and within is None:
        assert gone == []
    candidates = [t for t in everything if t.name.startswith(("v2", "pr"))]
    assert set(gone) <= set(candidates)
    assert not any(any_matches(wanted.protected, tag.name) for tag in gone)
    kept = [tag for tag in candidates if tag not in gone]
    if gone and last:
        assert len(kept) >= last
        assert min(tag.moved for tag in kept) >= max(tag.moved for tag in gone) or within
    assert all(tag.moved < NOW - within for tag in gone if within is not None)


# --- on a registry


def age(shop: Shop, seconds: float = 1e6) -> None:
    """Make all that is there older."""
    with shop.registry.metadata.change() as database:
        database.execute("UPDATE tags SET moved = moved - ?", (seconds,))
        database.execute("UPDATE manifests SET touched = touched - ?", (seconds,))


def apply(shop: Shop, *rules: Rule, dry_run: bool = False) -> Removed:
    shop.registry.retention.rules = rules
    return shop.registry.retention.apply(dry_run)


def push(shop: Shop, tag: str, name: str = "team/app") -> str:
    return shop.push(name, tag, [f"layer of {tag}".encode()])


def attach(shop: Shop, subject: str, tag: str = "", content: bytes = b"signature") -> str:
    more = {"mediaType": MEDIA_MANIFEST, "digest": subject, "size": 7}
    if tag:
        return shop.push("team/app", tag, [content])
    return shop.push("team/app", "", [content], subject=more)


def manifests(shop: Shop) -> set[str]:
    rows = shop.registry.metadata.rows("SELECT digest FROM manifests")
    return {digest for (digest,) in rows}


def test_old_tags_go_with_their_manifests_and_what_is_attached(shop: Shop) -> None:
    for tag in ("1", "2", "3"):
        digest = push(shop, tag)
        attach(shop, digest, content=tag.encode())
        attach(shop, digest, f"{digest.replace(':', '-')}.sig", b"cosign" + tag.encode())
        age(shop)
    kept = {push(shop, "4")}
    kept.add(attach(shop, *kept))
    removed = apply(shop, rule(last=1, untagged=HOUR))
    assert shop.tags("team/app") == ["4"]
    assert manifests(shop) == kept
    assert len(removed.tags) == 6
    assert len(removed.manifests) == 9
    assert shop.registry.driver.list(paths.tags("team/app")) == ["4"]
    shop.registry.collector.collect(-1)
    assert shop.get("/v2/team/app/manifests/4").status == 200


def test_what_is_attached_stays_while_its_subject_does(shop: Shop) -> None:
    digest = push(shop, "1")
    signature = f"{digest.replace(':', '-')}.sig"
    attach(shop, digest, signature)
    referrer = attach(shop, digest)
    age(shop)
    for _ in range(2):
        assert apply(shop, rule(last=1, untagged=HOUR)) == Removed()
    assert shop.tags("team/app") == ["1", signature]
    # The image has lost its tag, but nobody asked for untagged manifests to go.
    push(shop, "2")
    apply(shop, rule(last=1))
    assert shop.tags("team/app") == ["2", signature]
    assert {digest, referrer} <= manifests(shop)


def test_a_signature_may_come_before_its_image(shop: Shop) -> None:
    tag = f"sha256-{DIGEST}.sig"
    attach(shop, "", tag)
    assert apply(shop, rule(last=1)).tags == []
    age(shop)
    assert [name for _, name, _ in apply(shop, rule(last=1)).tags] == [tag]


def test_a_protected_signature_stays(shop: Shop) -> None:
    attach(shop, "", f"sha256-{DIGEST}.sig")
    age(shop)
    assert apply(shop, rule(last=0, untagged=HOUR, protected=["sha256-*"])) == Removed()


def test_a_dry_run_tells_the_same_and_changes_nothing(shop: Shop) -> None:
    for tag in ("1", "2"):
        digest = push(shop, tag)
        attach(shop, digest, f"{digest.replace(':', '-')}.sig", tag.encode())
    age(shop)
    push(shop, "3")
    before = (shop.tags("team/app"), manifests(shop))
    told = apply(shop, rule(last=1, untagged=HOUR), dry_run=True)
    assert (shop.tags("team/app"), manifests(shop)) == before
    assert len(shop.registry.driver.list(paths.tags("team/app"))) == 5
    assert apply(shop, rule(last=1, untagged=HOUR)) == told
    assert len(told.tags) == 4


def test_the_first_rule_about_a_repository_counts(shop: Shop) -> None:
    for name in ("team/app", "other/app"):
        push(shop, "1", name)
        push(shop, "2", name)
    age(shop)
    apply(shop, rule(repositories=["team/*"], last=2), rule(last=0))
    assert shop.tags("team/app") == ["1", "2"]
    assert shop.tags("other/app") == []


def test_a_tag_that_is_pushed_again_meanwhile_stays(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(shop, "1")
    age(shop)
    retention = shop.registry.retention
    look = retention._tags

    def push_after_the_look(name: str) -> list[Tag]:
        found = look(name)
        push(shop, "1")
        return found

    monkeypatch.setattr(retention, "_tags", push_after_the_look)
    assert apply(shop, rule(last=0)).tags == []
    assert shop.tags("team/app") == ["1"]


def test_the_age_of_a_tag_outlasts_the_database(disk: Shop) -> None:
    push(disk, "1")
    with disk.registry.metadata.change() as database:
        database.execute("UPDATE tags SET moved = 0")
    assert apply(disk, rule(within=HOUR)).tags == []
    (moved,) = disk.registry.metadata.rows("SELECT moved FROM tags")[0]
    current = paths.tag_current("team/app", "1")
    assert moved == disk.registry.driver.modified(current)


def test_the_parts_of_a_kept_index_stay(shop: Shop) -> None:
    from sampan.spec.image import MEDIA_INDEX
    from tests.own_registry import index

    child = shop.push("team/app", "")
    shop.put("team/app", "all", index([(child, 7)]), MEDIA_INDEX)
    lonely = shop.push("team/app", "", [b"lonely"])
    age(shop)
    removed = apply(shop, rule(last=1, untagged=HOUR))
    assert removed.manifests == [("team/app", lonely)]


@pytest.mark.parametrize("ahead", [365 * 24 * HOUR, -365 * 24 * HOUR])
def test_a_clock_that_is_set_makes_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    rules = rule(within=HOUR, untagged=HOUR)
    with ExitStack() as stack:
        registry = stack.enter_context(Registry.on_filesystem(str(tmp_path)))
        shop = stack.enter_context(serving(registry))
        push(shop, "1")
        push(shop, "")
        registry.metadata.note_time()
        true = time.time
        monkeypatch.setattr(time, "time", lambda: true() + ahead)
        assert apply(shop, rules) == Removed()
    with Registry.on_filesystem(str(tmp_path)) as registry, serving(registry) as shop:
        with registry.metadata.change() as database:  # as of tags that others have pushed
            database.execute("UPDATE tags SET moved = 0")
        assert apply(shop, rules) == Removed()
        assert shop.tags("team/app") == ["1"]


class PunctualBucket(MemoryBucket):
    """Has the right time, whatever the clock of this machine."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(chunk=1 << 20)
        self._now = now
        self._written: dict[str, float] = {}

    def keep(self, key: str, content: bytes) -> Entry:
        self._written[key] = self._now()
        return super().keep(key, content)

    def _entry(self, key: str) -> Entry:
        return replace(super()._entry(key), modified=self._written[key])


@pytest.mark.parametrize("ahead", [365 * 24 * HOUR, 0.0])
def test_a_clock_that_is_wrong_when_the_database_is_new_makes_no_tag_in_a_bucket_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    true = time.time
    passed = 0.0
    bucket = PunctualBucket(lambda: true() + passed)
    with (
        Registry.on_objects(ObjectDriver(bucket), tmp_path / "lost") as registry,
        serving(registry) as shop,
    ):
        push(shop, "1")
    passed = 2 * HOUR
    monkeypatch.setattr(time, "time", lambda: true() + passed + ahead)
    with (
        Registry.on_objects(ObjectDriver(bucket), tmp_path / "new") as registry,
        serving(registry) as shop,
    ):
        apply(shop, rule(within=24 * HOUR))
        assert shop.tags("team/app") == ["1"]
        apply(shop, rule(within=HOUR))
        assert shop.tags("team/app") == (["1"] if ahead else [])
