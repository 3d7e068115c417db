"""Who has an address, and how many things they do at once."""

from __future__ import annotations

import asyncio

from sampan.http.peers import Turns, owner, plain, with_port


def test_all_of_a_network_of_ipv6_is_one_client_and_each_address_of_ipv4_is_one() -> None:
    assert owner("2001:db8::1") == owner("2001:db8::ffff:0:0:2") != owner("2001:db8:0:1::1")
    assert owner("::ffff:192.0.2.1") == owner("192.0.2.1") != owner("192.0.2.2")
    assert owner("fe80::1%eth0") == owner("fe80::2")
    assert owner("") == ""


def test_an_address_of_ipv4_has_one_name() -> None:
    assert plain("::ffff:192.0.2.1") == plain("192.0.2.1") == "192.0.2.1"
    assert plain("::ffff:0:1") == "::ffff:0:1"
    assert plain("2001:db8::1") == "2001:db8::1"
    assert (with_port("192.0.2.1", 5), with_port("::1", 5)) == ("192.0.2.1:5", "[::1]:5")


def test_one_client_keeps_nobody_else_waiting() -> None:
    async def main() -> None:
        turns, running, go_on = Turns(2), list[str](), asyncio.Event()

        async def work(address: str, name: str) -> None:
            async with turns.turn(address):
                running.append(name)
                await go_on.wait()

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(work("192.0.2.1", f"greedy {number}"))
            group.create_task(work("192.0.2.2", "modest"))
            while "modest" not in running:
                await asyncio.sleep(0)
            assert running == ["greedy 0", "greedy 1", "modest"]
            go_on.set()
        assert len(running) == 6
        assert not turns._doors

    asyncio.run(main())


def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async def main() -> None:
        turns = Turns(1)
        async with turns.turn("a"):
            waiting = asyncio.create_task(turns.turn("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert not turns._doors

    asyncio.run(main())
