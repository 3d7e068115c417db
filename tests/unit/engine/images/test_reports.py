"""What a client is told while layers go: Docker's messages, in order, and not too many."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import msgspec
import pytest

from sampan.engine.images.reports import Meter, Report, bar, human_size, reported
from sampan.errors import Upstream


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (36445, "36.45kB"),
        (2000816, "2.001MB"),
        (1234567890, "1.235GB"),
    ],
)
def test_sizes_have_four_digits_and_decimal_units(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("current", "total", "drawn"),
    [
        (0, 0, ""),
        (36445, 0, " 36.45kB"),
        (36445, 2000816, "[>" + " " * 50 + "]  36.45kB/2.001MB"),
        (623104, 2000000, "[" + "=" * 15 + ">" + " " * 35 + "]  623.1kB/2MB"),
        (109, 109, "[" + "=" * 50 + ">]     109B/109B"),
        (512, 3, "[" + "=" * 50 + ">]     512B"),
    ],
)
def test_a_bar_is_drawn_as_docker_draws_it(current: int, total: int, drawn: str) -> None:
    assert bar(current, total) == drawn


def test_of_progress_that_was_not_read_only_the_newest_is_kept() -> None:
    async def main() -> list[bytes]:
        report = Report()
        report.update("a", "Pulling fs layer")
        for count in range(1000):
            report.advance("a", "Downloading", count, 1000)
            report.advance("b", "Downloading", count, 2000)
        report.update("a", "Download complete")
        report.advance("a", "Extracting", 1, 2)
        report.close()
        return [msgspec.json.encode(message) async for message in report.messages()]

    lines = [msgspec.json.decode(line) for line in asyncio.run(main())]
    assert [(line["status"], line["id"]) for line in lines] == [
        ("Pulling fs layer", "a"),
        ("Downloading", "a"),
        ("Downloading", "b"),
        ("Download complete", "a"),
        ("Extracting", "a"),
    ]
    assert lines[0]["progressDetail"] == {}
    assert lines[1]["progressDetail"] == {"current": 999, "total": 1000}


def test_plain_messages_have_no_detail_and_aux_has_nothing_else() -> None:
    async def main() -> list[bytes]:
        report = Report()
        report.say("Pulling from a/b", "1")
        report.aux({"Tag": "1"})
        report.close()
        return [msgspec.json.encode(message) async for message in report.messages()]

    assert asyncio.run(main()) == [
        b'{"status":"Pulling from a/b","id":"1"}',
        b'{"progressDetail":{},"aux":{"Tag":"1"}}',
    ]


def test_an_error_comes_after_the_messages() -> None:
    async def work(report: Report) -> None:
        report.say("one")
        await asyncio.sleep(0)
        report.say("two")
        raise Upstream("broken")

    async def main() -> list[str]:
        said = []
        with pytest.raises(Upstream, match="broken"):
            async for message in reported(work):
                said.append(message.status)
        return said

    assert asyncio.run(main()) == ["one", "two"]


def test_who_stops_reading_cancels_the_work_and_waits_for_its_end() -> None:
    ended = []

    async def work(report: Report) -> None:
        report.say("one")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main() -> None:
        async with aclosing(reported(work)) as messages:
            assert (await anext(messages)).status == "one"
        assert ended == [True]

    asyncio.run(main())


def test_a_meter_counts_in_threads_and_tells_the_loop_seldom() -> None:
    async def main() -> tuple[list[int], int]:
        told: list[int] = []
        now = [0.0]
        meter = Meter(told.append, clock=lambda: now[0])

        def work() -> None:
            for step in range(100):
                now[0] = step * 0.01
                meter(10)

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        meter.stop()
        meter(1)
        await asyncio.sleep(0)
        return told, meter.count

    told, count = asyncio.run(main())
    assert count == 1001
    assert told == sorted(told)
    assert 9 <= len(told) <= 11
