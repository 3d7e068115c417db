from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.registry.auth.access import Scope
from sampan.registry.tokens.rules import Identity, Rule, grant, parse_scope

ALICE = Identity("alice", ("dev", "ops"))
BOB = Identity("bob")
NOBODY = Identity()
RULES = [
    Rule.parse("everybody", "repository", "public/**", "pull"),
    Rule.parse("users", "repository", "$user/**", "all"),
    Rule.parse("group:dev", "repository", "shared/*", "pull,push"),
    Rule.parse("users", "repository", "teams/$group/*", "pull"),
    Rule.parse("user:bob", "registry", "catalog", "all"),
]


def granted(identity: Identity, *scopes: str) -> list[str]:
    wanted = [scope for scope in map(parse_scope, scopes) if scope]
    return [str(scope) for scope in grant(RULES, identity, wanted)]


@pytest.mark.parametrize(
    ("identity", "scope", "found"),
    [
        (NOBODY, "repository:public/app:pull,push", ["repository:public/app:pull"]),
        (NOBODY, "repository:alice/app:pull", []),
        (ALICE, "repository:alice/app:push,pull", ["repository:alice/app:push,pull"]),
        (ALICE, "repository:alice/a/b:*", ["repository:alice/a/b:pull,push,delete"]),
        (ALICE, "repository:bob/app:pull", []),
        (ALICE, "repository:shared/x:pull,delete", ["repository:shared/x:pull"]),
        (BOB, "repository:shared/x:pull", []),
        (ALICE, "repository:teams/ops/x:pull", ["repository:teams/ops/x:pull"]),
        (BOB, "repository:teams/ops/x:pull", []),
        (BOB, "registry:catalog:*", ["registry:catalog:*"]),
        (BOB, "registry:catalog:search", ["registry:catalog:search"]),
        (ALICE, "registry:catalog:*", []),
        (ALICE, "repository(plugin):alice/app:pull", ["repository(plugin):alice/app:pull"]),
        (ALICE, "repository:host:5000/alice/app:pull", []),
        (ALICE, "repository:alice/../bob:pull", []),
        (ALICE, "repository:ALICE/app:pull", []),
        (ALICE, "nonsense", []),
        (ALICE, "repository:alice/app:", []),
        (ALICE, "other:alice/app:pull", []),
    ],
)
def test_rules_grant_the_part_that_they_are_about(
    identity: Identity, scope: str, found: list[str]
) -> None:
    assert granted(identity, scope) == found


def test_rules_add_up() -> None:
    rules = [*RULES, Rule.parse("user:alice", "repository", "public/app", "push")]
    wanted = [Scope("repository", "public/app", ("pull", "push", "delete"))]
    assert [str(s) for s in grant(rules, ALICE, wanted)] == ["repository:public/app:pull,push"]


@pytest.mark.parametrize(
    "words",
    [
        ("somebody", "repository", "x", "pull"),
        ("user:", "repository", "x", "pull"),
        ("user:a/b", "repository", "x", "pull"),
        ("users", "image", "x", "pull"),
        ("users", "repository", "x", "write"),
        ("users", "repository", "x", "*"),
        ("users", "repository", "", "pull"),
        ("users", "repository", "$home/x", "pull"),
        ("users", "repository", "a b", "pull"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(words: tuple[str, str, str, str]) -> None:
    with pytest.raises(InvalidArgument):
        Rule.parse(*words)


@given(st.text(max_size=60), st.text("abc/.:$*", max_size=30))
def test_no_scope_breaks_anything_or_grants_what_is_not_asked(text: str, name: str) -> None:
    for scope in (text, f"repository:{name}:pull"):
        for found in granted(ALICE, scope):
            assert found.rpartition(":")[2] in ("pull", "pull,push")
