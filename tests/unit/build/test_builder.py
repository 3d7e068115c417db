"""Whole builds, on a worker that keeps layers in a dictionary: what is said, made and cached."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from sampan.build.builder import Builder
from sampan.build.built import Recipe
from sampan.build.caching.pruning import PruneWish
from sampan.build.contexts.main_context import MainContext
from sampan.build.instructions.metadata import is_signal
from sampan.build.telling.display import Display
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import BuildOptions, GCPolicy, Limits
from sampan.spec.docker.images import ProgressMessage
from tests import tarballs
from tests.build_worker import Yard

BASE = (tarballs.folder("etc"), tarballs.file("etc/passwd", b"root:x:0:0::/:\nweb:x:33:44::/:\n"))


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have("box", *BASE, env=["HOME=/root"])
    return yard


def test_a_build_says_what_dockers_classic_builder_says(yard: Yard) -> None:
    base = yard.worker.images["box"].id
    messages = asyncio.run(yard.build("FROM box\nRUN print hi\nENV A=b\nCMD x", quiet=False))
    ids = yard.worker.images["made"].id
    lines = [message.stream for message in messages if message.stream]
    assert lines[:5] == [
        "Step 1/4 : FROM box\n",
        f" ---> {base[7:19]}\n",
        "Step 2/4 : RUN print hi\n",
        " ---> Running in cccccccccccc\n",
        "hi\n",
    ]
    assert lines[5] == " ---> Removed intermediate container cccccccccccc\n"
    assert lines[-3:] == [
        f" ---> {ids[7:19]}\n",
        f"Successfully built {ids[7:19]}\n",
        "Successfully tagged made\n",
    ]
    assert [message.aux for message in messages if message.aux] == [{"ID": ids}]


def test_a_quiet_build_says_the_id_alone(yard: Yard) -> None:
    messages = asyncio.run(yard.build("FROM box\nRUN print hi", quiet=True))
    assert messages == [ProgressMessage(stream=yard.worker.images["made"].id + "\n")]


def test_from_alone_gives_the_image_itself_a_name(yard: Yard) -> None:
    yard.built("FROM box")
    assert yard.worker.images["made"].id == yard.worker.images["box"].id


def test_the_history_says_every_step(yard: Yard) -> None:
    yard.built("FROM box\nARG V=1\nRUN print hi\nRUN write /x y\nENV A=b\nWORKDIR /w\nCOPY f /d/",
               tarballs.file("f"))  # fmt: skip
    history = [(step.created_by, step.empty_layer) for step in yard.made.history or []]
    assert history == [
        ("/bin/sh -c #(nop)  ARG V=1", True),
        ("|1 V=1 /bin/sh -c print hi", True),
        ("|1 V=1 /bin/sh -c write /x y", False),
        ("/bin/sh -c #(nop)  ENV A=b", True),
        ("/bin/sh -c #(nop) WORKDIR /w", False),
        ("/bin/sh -c #(nop) COPY f in /d/ ", False),
    ]
    assert yard.made.created == (yard.made.history or [])[-1].created


# --- the cache -----------------------------------------------------------------------------


def test_the_same_again_comes_from_the_cache_with_the_same_id(yard: Yard) -> None:
    text = "FROM box\nRUN write /x y\nENV A=b\nWORKDIR /w\nCOPY f /d\nRUN print hi\nCMD z"
    yard.built(text, tarballs.file("f", b"1"))
    first, steps = yard.worker.images["made"].id, len(yard.worker.steps)
    said = yard.built(text, tarballs.file("f", b"1"))
    assert said.count("Using cache") == 6
    assert yard.worker.images["made"].id == first
    assert len(yard.worker.steps) == steps


def test_the_cache_outlasts_the_daemon(yard: Yard) -> None:
    yard.built("FROM box\nRUN write /x y")
    yard.builder = Builder(yard.worker, yard.database)
    assert "Using cache" in yard.built("FROM box\nRUN write /x y")


def test_a_changed_content_makes_a_new_layer_and_a_changed_time_does_not(yard: Yard) -> None:
    text = "FROM box\nCOPY f /d"
    yard.built(text, tarballs.file("f", b"1"))
    later = tarballs.raw(b"f", data=b"1")
    later = later[:136] + b"00000000777\0" + later[148:]
    checksum = b"%06o\0 " % sum(later[:148] + b"        " + later[156:512])
    later = later[:148] + checksum + later[156:]
    assert "Using cache" in yard.built(text, later)
    assert "Using cache" not in yard.built(text, tarballs.file("f", b"2"))
    assert "Using cache" not in yard.built(text, tarballs.file("f", b"1", mode=0o755))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ENV A=1\nRUN print x", "ENV A=2\nRUN print x"),
        ("ARG A=1\nRUN print x", "ARG A=2\nRUN print x"),
        ("USER a\nRUN print x", "USER b\nRUN print x"),
        ('SHELL ["a"]\nRUN print x', 'SHELL ["b"]\nRUN print x'),
        ("WORKDIR /a\nRUN print x", "WORKDIR /b\nRUN print x"),
        ("RUN write /a 1\nRUN print x", "RUN write /a 2\nRUN print x"),
        ("RUN print x", "RUN --network=none print x"),
        ("RUN print x", "RUN --mount=type=tmpfs,target=/t print x"),
    ],
)
def test_a_command_runs_again_if_it_may_see_a_difference(
    yard: Yard, first: str, second: str
) -> None:
    yard.built(f"FROM box\n{first}")
    count = len(yard.worker.steps)
    yard.built(f"FROM box\n{second}")
    assert yard.worker.steps[-1].command[-1] == "print x"
    assert len(yard.worker.steps) > count


def test_equal_texts_on_other_images_are_other_steps(yard: Yard) -> None:
    """The cache of Docker's classic builder could be poisoned so (CVE-2024-24557)."""
    yard.built("FROM scratch\nHEALTHCHECK CMD evil\nONBUILD RUN evil")
    said = yard.built("FROM scratch\nHEALTHCHECK NONE\nONBUILD RUN evil")
    assert "Using cache" not in said
    assert yard.made.run.healthcheck
    assert yard.made.run.healthcheck.test == ["NONE"]


def test_labels_and_commands_before_a_command_do_not_make_it_run_again(yard: Yard) -> None:
    yard.built("FROM box\nLABEL a=1\nRUN write /x y")
    count = len(yard.worker.steps)
    yard.built("FROM box\nLABEL a=2\nRUN write /x y")
    assert len(yard.worker.steps) == count


def test_without_the_cache_everything_is_made_again(yard: Yard) -> None:
    text = "FROM box\nRUN write /x y\nCMD z"
    yard.built(text)
    said = yard.built(text, no_cache=True)
    assert "Using cache" not in said
    assert len(yard.worker.steps) == 2


def test_with_images_to_cache_from_the_steps_of_those_alone_count(yard: Yard) -> None:
    text = "FROM box\nENV A=b\nRUN write /x y"
    yard.built(text, tags=["first"])
    assert yard.built(text, cache_from=["first"]).count("Using cache") == 2
    assert yard.built(text, cache_from=["none"]).count("Using cache") == 0


def test_a_record_whose_layer_has_gone_is_no_record(yard: Yard) -> None:
    yard.built("FROM box\nRUN write /x y")
    for record in yard.builder.cache.records():
        yard.worker.layers.pop(record.chain, None)
    assert "Running in" in yard.built("FROM box\nRUN write /x y")


def test_a_pruned_cache_holds_no_layers(yard: Yard) -> None:
    yard.built("FROM box\nRUN write /x yes\nCMD z")

    async def prune() -> Any:
        return await yard.builder.housekeeping.prune(PruneWish(all=True))

    gone, freed = asyncio.run(prune())
    assert freed == len(b"yes")
    assert len(gone) == 2
    assert yard.builder.cache.records() == []


def test_a_cache_that_has_grown_is_swept_after_a_build(yard: Yard) -> None:
    policies = [GCPolicy(all=True, max_used=5)]
    yard.builder = Builder(yard.worker, yard.database, policies=policies)
    yard.built("FROM box\nRUN write /x 12345\n", tags=[])
    yard.built("FROM box\nRUN write /y 54321\n", tags=[])
    layers = [one for one in asyncio.run(yard.builder.housekeeping.usages()) if one.size]
    assert [one.record.description for one in layers] == ["/bin/sh -c write /y 54321"]
    yard.builder = Builder(yard.worker, yard.database, policies=[])
    yard.built("FROM box\nRUN write /z 12345\n", tags=[])
    assert len([one for one in asyncio.run(yard.builder.housekeeping.usages()) if one.size]) == 2


# --- stages --------------------------------------------------------------------------------


def test_files_come_from_other_stages(yard: Yard) -> None:
    yard.built(
        "FROM box AS one\nRUN write /a/b/c text\n"
        "FROM box AS two\nRUN write /d other\n"
        "FROM scratch\nCOPY --from=one /a/b /to/\nCOPY --from=1 /d /e\nCOPY --from=box /etc/* /f/"
    )
    assert yard.content("/to/c") == b"text"
    assert yard.content("/e") == b"other"
    assert yard.content("/f/passwd").startswith(b"root:")


def test_a_cached_copy_from_a_stage_reads_no_file(yard: Yard) -> None:
    text = "FROM box AS a\nRUN write /f 1\nFROM scratch\nCOPY --from=a /f /g"
    yard.built(text)
    reads = yard.worker.reads
    assert "Using cache" in yard.built(text)
    assert yard.worker.reads == reads + 1  # the context
    assert "Using cache" not in yard.built(text.replace("/f 1", "/f 2"))
    assert yard.content("/g") == b"2"


def test_a_copy_of_other_files_has_another_key_whatever_they_are_called(yard: Yard) -> None:
    text = "FROM scratch AS a\nCOPY a b exclude /\nFROM scratch\nCOPY --from=a {} /d/"
    files = [tarballs.file(name, name.encode()) for name in ("a", "b", "exclude")]
    yard.built(text.format("a exclude b"), *files)
    yard.built(text.format("--exclude=b --exclude=exclude a"), *files)
    assert set(yard.files()) == {"/d", "/d/a"}


def test_an_epoch_that_no_time_can_hold_is_refused(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="invalid SOURCE_DATE_EPOCH: 9223372037"):
        yard.built("FROM box\nCMD x", arguments={"SOURCE_DATE_EPOCH": "9223372037"})
    yard.built("FROM box\nCMD x", arguments={"SOURCE_DATE_EPOCH": "9223372036"})


def test_variables_that_double_do_not_fill_the_memory(yard: Yard) -> None:
    doubling = "".join(f"ENV A{n + 1}=$A{n}$A{n}\n" for n in range(40))
    with pytest.raises(InvalidArgument, match="the values of variables make an instruction too lo"):
        yard.built(f"FROM box\nENV A0=12345678\n{doubling}")


def test_a_configuration_of_any_size_is_not_made(yard: Yard) -> None:
    large = "".join(f"ENV A{n}={'$V' * 10}\n" for n in range(30))
    with pytest.raises(InvalidArgument, match="the image's configuration is larger than 16777216"):
        yard.built(f"FROM box\nENV V={'x' * 60_000}\n{large}")


def test_nothing_is_reused_that_was_made_for_another_epoch(yard: Yard) -> None:
    text = "FROM box\nRUN write /f 1\nWORKDIR /w\nCMD x"
    yard.built(text, arguments={"SOURCE_DATE_EPOCH": "5"})
    assert "Using cache" not in yard.built(text, arguments={"SOURCE_DATE_EPOCH": "6"})
    assert yard.built(text, arguments={"SOURCE_DATE_EPOCH": "5"}).count("Using cache") == 3


def test_a_stage_goes_on_where_another_ended(yard: Yard) -> None:
    yard.built("FROM box AS one\nARG A=1\nENV B=2\nCMD x\nFROM one\nENV C=$A$B\nENTRYPOINT y")
    assert (yard.made.run.env or [])[-1] == "C=12"
    assert yard.made.run.cmd == ["/bin/sh", "-c", "x"]


def test_stages_that_nobody_needs_are_not_built(yard: Yard) -> None:
    said = yard.built("FROM nothing AS a\nRUN fail 1\nFROM box AS b\nRUN print b\nFROM nothing",
                      target="b")  # fmt: skip
    assert "Step 2/2 : RUN print b" in said
    assert len(yard.worker.steps) == 1


def test_stages_that_do_not_need_each_other_run_at_once(yard: Yard) -> None:
    """The first waits for the second: one after the other they would wait for ever."""
    text = (
        "FROM box AS a\nRUN wait x\nRUN write /a 1\nFROM box AS b\nRUN signal x\nRUN write /b 2\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )

    async def main() -> list[ProgressMessage]:
        yard.worker.events["x"] = asyncio.Event()
        return await asyncio.wait_for(yard.build(text), 20)

    said = "".join(message.stream for message in asyncio.run(main()))
    steps = [line for line in said.splitlines() if line.startswith("Step")]
    assert steps == sorted(steps)  # although the second stage was faster
    assert (yard.content("/a"), yard.content("/b")) == (b"1", b"2")


def test_the_same_step_in_two_stages_is_run_once(yard: Yard) -> None:
    yard.built("FROM box AS a\nRUN write /a 1\nFROM box AS b\nRUN write /a 1\nFROM scratch\n"
               "COPY --from=a /a /1\nCOPY --from=b /a /2")  # fmt: skip
    assert len(yard.worker.steps) == 1


def test_a_failure_ends_all_stages_and_names_no_image(yard: Yard) -> None:
    async def main() -> list[ProgressMessage]:
        yard.worker.events["never"] = asyncio.Event()
        return await asyncio.wait_for(
            yard.build(
                "FROM box AS a\nRUN wait never\nFROM box AS b\nRUN fail 7\nFROM scratch\n"
                "COPY --from=a / /\nCOPY --from=b / /"
            ),
            20,
        )

    messages = asyncio.run(main())
    assert messages[-1].error == "The command '/bin/sh -c fail 7' returned a non-zero code: 7"
    assert messages[-1].error_detail
    assert messages[-1].error_detail.code == 7
    assert "\x1b[91mfailing\n\x1b[0m" in [message.stream for message in messages]
    assert "made" not in yard.worker.images
    assert yard.worker.running == 0


def test_a_build_that_is_closed_ends_its_steps(yard: Yard) -> None:
    async def main() -> None:
        yard.worker.events["never"] = asyncio.Event()
        archive = tarballs.archive(tarballs.file("Dockerfile", b"FROM box\nRUN wait never"))

        async def chunks() -> Any:
            yield archive

        context = await yard.builder.incoming.receive(chunks())
        messages = yard.builder.build(BuildOptions(), context, yard.client)
        while "Running" not in (await anext(messages)).stream:
            pass
        await messages.aclose()
        assert yard.worker.running == 0

    asyncio.run(main())


# --- arguments -----------------------------------------------------------------------------


def test_arguments_are_what_the_client_says_or_their_defaults(yard: Yard) -> None:
    yard.built(
        "ARG TOP=box\nARG SEEN=top\nFROM $TOP\nARG A=1\nARG B\nARG C=${A}c\nARG SEEN\n"
        "LABEL all=$A,$B,$C,$SEEN,$TOP",
        arguments={"A": "given", "B": None},
    )
    assert yard.made.run.labels == {"all": "given,,givenc,top,"}


def test_the_environment_goes_before_arguments(yard: Yard) -> None:
    yard.built("FROM box\nARG A=1\nENV A=2\nRUN print x\nLABEL a=$A", arguments={"A": "3"})
    assert yard.made.run.labels == {"a": "2"}
    assert "A=2" in yard.worker.steps[-1].env
    assert "A=3" not in yard.worker.steps[-1].env


def test_arguments_are_in_the_environment_of_commands_and_in_no_image(yard: Yard) -> None:
    yard.built("FROM box\nARG A=1\nRUN print x")
    assert "A=1" in yard.worker.steps[-1].env
    assert not any(entry.startswith("A=") for entry in yard.made.run.env or [])


def test_proxies_are_known_to_commands_and_nowhere_to_be_seen(yard: Yard) -> None:
    text = "FROM box\nRUN print x"
    yard.built(text, arguments={"HTTP_PROXY": "http://secret"})
    assert "HTTP_PROXY=http://secret" in yard.worker.steps[-1].env
    assert "secret" not in str(yard.made)
    assert "Using cache" in yard.built(text, arguments={"HTTP_PROXY": "http://other"})


def test_platforms_are_known(yard: Yard) -> None:
    yard.built(
        "FROM --platform=$BUILDPLATFORM box\nARG TARGETARCH\nARG TARGETOS\nLABEL"
        " a=$TARGETOS/$TARGETARCH b=$TARGETPLATFORM",
        platform="linux/arm64",
    )
    assert yard.made.run.labels == {"a": "linux/arm64", "b": ""}


def test_arguments_that_nobody_asked_for_are_named(yard: Yard) -> None:
    said = yard.built("FROM box\nARG A\nCMD x", arguments={"A": "1", "B": "2", "C": None})
    assert "[Warning] One or more build-args [B C] were not consumed\n" in said


# --- options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "valid"),
    [("9", True), ("SIGUSR1", True), ("term", True), ("RTMIN+3", True), ("SIGRTMAX-14", True),
     ("0", False), ("65", False), ("SIGNOPE", False), ("RTMIN+16", False)],
)  # fmt: skip
def test_signals_are_those_of_linux(signal: str, valid: bool) -> None:
    assert is_signal(signal) is valid


def test_the_history_shows_the_shell_in_effect(yard: Yard) -> None:
    yard.built('FROM box\nSHELL ["/bin/ash", "-e"]\nENV A=b\nCOPY f /g', tarballs.file("f"))
    assert [step.created_by for step in yard.made.history or []] == [
        "/bin/ash -e #(nop)  SHELL [/bin/ash -e]",
        "/bin/ash -e #(nop)  ENV A=b",
        "/bin/ash -e #(nop) COPY f in /g ",
    ]


def test_labels_of_the_client_come_last(yard: Yard) -> None:
    said = yard.built("FROM box\nLABEL a=1", labels={"a": "it's $A", "b": ""})
    assert "Step 3/3 : LABEL" in said
    assert yard.made.run.labels == {"a": "it's $A", "b": ""}


def test_commands_get_what_the_client_allows_them(yard: Yard) -> None:
    yard.built("FROM box\nRUN print x", network="host", extra_hosts=["a:1.2.3.4"],
               limits=Limits(memory=1 << 30), entitlements=["network.host"])  # fmt: skip
    step = yard.worker.steps[-1]
    assert (step.network, step.extra_hosts, step.limits.memory) == ("host", ["a:1.2.3.4"], 1 << 30)


def test_the_same_files_and_epoch_make_the_same_image_anywhere() -> None:
    ids = set()
    for _ in range(2):
        yard = Yard()
        yard.worker.have("box", *BASE)
        yard.built("FROM box\nWORKDIR /w\nCOPY f /d/\nCMD x", tarballs.file("f"),
                   arguments={"SOURCE_DATE_EPOCH": "1000000000"})  # fmt: skip
        ids.add(yard.worker.images["made"].id)
        assert yard.made.created == "2001-09-09T01:46:40Z"
        assert max(info.mtime for info, _ in yard.files().values()) <= 1000000000
    assert len(ids) == 1


def test_triggers_of_the_base_run_first_and_are_gone_then(yard: Yard) -> None:
    yard.built("FROM box\nONBUILD COPY f /f\nONBUILD ENV A=b", tags=["parent"])
    yard.worker.images["parent"] = yard.worker.images["parent"]
    said = yard.built("FROM parent\nLABEL a=$A", tarballs.file("f", b"mine"))
    assert "# Executing 2 build triggers\n" in said
    assert yard.content("/f") == b"mine"
    assert yard.made.run.labels == {"a": "b"}
    assert not yard.made.run.on_build


def test_checks_tell_of_variables_that_nobody_has_set(yard: Yard) -> None:
    text = b"FROM box\nARG A\nENV B=$A C=${D:-e} E=$HOME\nLABEL x=$F y=$B\n"

    async def main() -> list[str]:
        async def chunks() -> Any:
            yield tarballs.archive(tarballs.file("Dockerfile", text))

        context, options = await yard.builder.incoming.receive(chunks()), BuildOptions()
        display = partial(Display, lambda _: None, options)
        try:
            built = await yard.builder.solve(
                options, Recipe(text, "Dockerfile"), MainContext(context), yard.client, display
            )
        finally:
            context.spool.close()
        return [f"{one.first} {one.rule} {one.message}" for one in built.violations]

    assert asyncio.run(main()) == [
        "3 UndefinedVar Usage of undefined variable '$D'",
        "4 UndefinedVar Usage of undefined variable '$F' (did you mean $B?)",
    ]


def test_a_check_that_is_an_error_ends_the_build(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="lint violation found for rules: MaintainerDepr"):
        yard.built("# check=error=true\nFROM box\nMAINTAINER me")
    assert yard.worker.steps == []


# --- what is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM nothing", "No such image: nothing"),
        ("FROM ${A:?given}", "A: given"),
        ("FROM $A", "base name ($A) should not be blank"),
        ("FROM box\nCOPY nothing /", "COPY failed: file not found in build context or excluded by"
         " .dockerignore: stat nothing: file does not exist"),
        ("FROM box\nCOPY ../f /", "COPY failed: forbidden path outside the build context: ../f ()"),
        ("FROM box\nCOPY f g /h", "the destination must be a directory and end with a /"),
        ("FROM box\nCOPY f /etc/passwd/x", "/etc/passwd is not a directory"),
        ("FROM box\nCOPY --chown=nobody f /", "can't find uid for user nobody"),
        ("FROM box\nCOPY --chmod=9 f /", "invalid chmod parameter: '9'"),
        ("FROM box\nCOPY --from=x f /", "invalid from flag value x: No such image: x"),
        ("FROM box AS x\nCOPY --from=x f /", "circular dependency detected on stage: x"),
        ("FROM box AS x\nCOPY --from=y f /\nFROM box AS y\nFROM x", "circular dependency"),
        ("FROM box AS x\nFROM box\nCOPY --from=x /no /", "stat /no: file does not exist"),
        ("FROM box\nADD http://x/none /", "failed to GET http://x/none with status 404"),
        ("FROM box\nEXPOSE 99999", "invalid containerPort: 99999"),
        ("FROM box\nEXPOSE 80/abc", "invalid proto: abc"),
        ("FROM box\nSTOPSIGNAL no!", "Invalid signal: no!"),
        ("FROM box\nWORKDIR /etc/passwd", "/etc/passwd is not a directory"),
        ("FROM box\nENV A=${B:?set}", "B: set"),
        ("FROM box\nRUN --security=insecure x", "security.insecure is not allowed"),
        ("FROM box\nRUN --mount=type=x,target=/y z", 'unsupported mount type "x"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(yard: Yard, text: str, message: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)) as raised:
        yard.built(text, tarballs.file("f"), tarballs.file("g"))
    assert message in str(raised.value)
    faulty = [line for line in str(raised.value).splitlines() if ">>>" in line]
    assert "FROM nothing" in text or faulty


def test_a_missing_dockerfile_is_named(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="Cannot locate specified Dockerfile: other/x"):
        yard.built("FROM box", dockerfile="other/x")


def test_a_target_that_is_not_there_is_named(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="target stage x could not be found"):
        yard.built("FROM box", target="x")
