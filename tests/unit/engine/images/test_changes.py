"""Instructions that change an image's configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.images.changes import apply_changes, merge
from sampan.errors import InvalidArgument
from sampan.spec.image import Healthcheck, RunConfig

SECOND = 10**9


def changed(*changes: str, base: RunConfig | None = None) -> RunConfig:
    return apply_changes(base or RunConfig(), changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', RunConfig(cmd=["a", "b c"])),
        ("CMD echo hi", RunConfig(cmd=["/bin/sh", "-c", "echo hi"])),
        ("cmd echo hi", RunConfig(cmd=["/bin/sh", "-c", "echo hi"])),
        ("CMD [broken", RunConfig(cmd=["/bin/sh", "-c", "[broken"])),
        ('ENTRYPOINT ["/init"]', RunConfig(entrypoint=["/init"])),
        ("ENTRYPOINT exec top", RunConfig(entrypoint=["/bin/sh", "-c", "exec top"])),
        ("ENV A=1", RunConfig(env=["A=1"])),
        ("ENV A 1 2 3", RunConfig(env=["A=1 2 3"])),
        ("ENV A=\"1 2\" B='3 $A' C=4\\ 5", RunConfig(env=["A=1 2", "B=3 $A", "C=4 5"])),
        ("ENV A=1 B=2", RunConfig(env=["A=1", "B=2"])),
        ("EXPOSE 80", RunConfig(exposed_ports={"80/tcp": {}})),
        (
            "EXPOSE 53/udp 80-81",
            RunConfig(exposed_ports={f"{p}": {} for p in ("53/udp", "80/tcp", "81/tcp")}),
        ),
        ("LABEL a=b", RunConfig(labels={"a": "b"})),
        ('LABEL "com.example/x"="y z" q', None),
        ('LABEL "com.example/x"="y z"', RunConfig(labels={"com.example/x": "y z"})),
        ("LABEL a b c", RunConfig(labels={"a": "b c"})),
        ("USER web:www", RunConfig(user="web:www")),
        ("VOLUME /data", RunConfig(volumes={"/data": {}})),
        ('VOLUME ["/a", "/b c"]', RunConfig(volumes={"/a": {}, "/b c": {}})),
        ("VOLUME /a /b", RunConfig(volumes={"/a": {}, "/b": {}})),
        ("WORKDIR /srv", RunConfig(working_dir="/srv")),
        ("WORKDIR a/../b/", RunConfig(working_dir="/b")),
        ("STOPSIGNAL SIGINT", RunConfig(stop_signal="SIGINT")),
        ("STOPSIGNAL 9", RunConfig(stop_signal="9")),
        ("ONBUILD RUN make", RunConfig(on_build=["RUN make"])),
        ("HEALTHCHECK NONE", RunConfig(healthcheck=Healthcheck(test=["NONE"]))),
        (
            "HEALTHCHECK --interval=5s --timeout=1m --start-period=1.5s --retries=3 CMD curl -f x",
            RunConfig(
                healthcheck=Healthcheck(
                    test=["CMD-SHELL", "curl -f x"],
                    interval=5 * SECOND,
                    timeout=60 * SECOND,
                    start_period=SECOND * 3 // 2,
                    retries=3,
                )
            ),
        ),
        ('HEALTHCHECK CMD ["a"]', RunConfig(healthcheck=Healthcheck(test=["CMD", "a"]))),
    ],
)
def test_an_instruction_changes_its_field(change: str, expected: RunConfig | None) -> None:
    if expected is None:
        with pytest.raises(InvalidArgument):
            changed(change)
    else:
        assert changed(change) == expected


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find ="),
        ("ENV =1", "names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("EXPOSE 80/icmp", "invalid containerPort: 80/icmp"),
        ("EXPOSE 9-3", "invalid containerPort: 9-3"),
        ("USER", "USER requires exactly one argument"),
        ("USER a b", "USER requires exactly one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("STOPSIGNAL ;", "invalid signal: ;"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "Unknown type"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=x CMD a", "invalid duration"),
        ("HEALTHCHECK --interval=1us CMD a", "cannot be less than 1ms"),
        ("HEALTHCHECK --interval=-5s CMD a", "cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD a", "invalid retries value: -1"),
        (f"HEALTHCHECK --retries={1 << 31} CMD a", "invalid retries value: 2147483648"),
        (f"HEALTHCHECK --retries={'9' * 5000} CMD a", "invalid retries value: 9999"),
        ("HEALTHCHECK --what=1s CMD a", "unknown flag: --what"),
    ],
)
def test_what_is_no_change_is_refused_in_dockers_words(change: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        changed(change)


def test_changes_are_applied_in_order_and_the_original_stays() -> None:
    base = RunConfig(env=["PATH=/bin", "A=0"], cmd=["sh"], labels={"k": "v"})
    result = changed("ENV A=1 B=${A}2", "ENV C=$B-${X:-no}-${A:+yes}", "LABEL k=w", base=base)
    assert result.env == ["PATH=/bin", "A=1", "B=02", "C=02-no-yes"]
    assert result.labels == {"k": "w"}
    assert base.env == ["PATH=/bin", "A=0"]


def test_an_entrypoint_takes_the_command_away_unless_it_was_given_before() -> None:
    base = RunConfig(cmd=["sh"])
    assert changed('ENTRYPOINT ["x"]', base=base).cmd is None
    assert changed('CMD ["y"]', 'ENTRYPOINT ["x"]', base=base).cmd == ["y"]


def test_lines_may_be_joined_and_comments_left_out() -> None:
    assert changed("ENV A=1 \\\n  B=2", "# nothing", "").env == ["A=1", "B=2"]


def test_a_shell_of_the_image_is_used() -> None:
    base = RunConfig(shell=["/bin/bash", "-eu", "-c"])
    assert changed("CMD x", base=base).cmd == ["/bin/bash", "-eu", "-c", "x"]


@given(
    st.text(max_size=60),
    st.sampled_from(["ENV", "LABEL", "CMD", "VOLUME", "HEALTHCHECK", "EXPOSE"]),
)
def test_no_text_makes_the_parser_fail_otherwise(text: str, name: str) -> None:
    try:
        changed(f"{name} {text}")
    except InvalidArgument:
        pass


def test_a_commit_fills_gaps_from_the_containers_configuration() -> None:
    custom = RunConfig(env=["A=1"], labels={"x": "1"}, exposed_ports={"80/tcp": {}})
    base = RunConfig(
        user="web",
        env=["A=0", "B=2"],
        cmd=["sh"],
        entrypoint=["/init"],
        labels={"x": "0", "y": "2"},
        exposed_ports={"443/tcp": {}},
        volumes={"/v": {}},
        working_dir="/srv",
        stop_signal="SIGINT",
        healthcheck=Healthcheck(test=["CMD", "x"], retries=3),
    )
    merged = merge(custom, base)
    assert merged.env == ["A=1", "B=2"]
    assert merged.labels == {"x": "1", "y": "2"}
    assert merged.exposed_ports == {"80/tcp": {}, "443/tcp": {}}
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("web", "/srv", "SIGINT")
    assert (merged.cmd, merged.entrypoint) == (["sh"], ["/init"])
    assert merged.healthcheck == base.healthcheck


def test_a_new_entrypoint_does_not_get_the_old_command() -> None:
    merged = merge(RunConfig(entrypoint=["/new"]), RunConfig(cmd=["sh"], entrypoint=["/old"]))
    assert (merged.entrypoint, merged.cmd) == (["/new"], None)
    cleared = merge(RunConfig(entrypoint=[]), RunConfig(cmd=["sh"], entrypoint=["/old"]))
    assert (cleared.entrypoint, cleared.cmd) == ([], ["sh"])
