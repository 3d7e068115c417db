from __future__ import annotations

import logging
import socketserver
import threading
from collections.abc import Iterator

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import check
from sampan.registryd import settings
from sampan.registryd.mail import Mailbox, MailHandler, Post
from tests.session import eventually


class PostOffice(socketserver.ThreadingTCPServer):
    """A server that takes any mail."""

    allow_reuse_address = True

    def __init__(self) -> None:
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", 0), _Clerk)


class _Clerk(socketserver.StreamRequestHandler):
    server: PostOffice

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        while line := self.rfile.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    text += part
                self.server.mails.append(text.decode())
            if verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def office() -> Iterator[PostOffice]:
    with PostOffice() as office:
        thread = threading.Thread(target=office.serve_forever)
        thread.start()
        yield office
        office.shutdown()
        thread.join()


def box(port: int, *levels: int) -> Mailbox:
    return Mailbox("127.0.0.1", port, "hub@example.com", ["a@example.com"], frozenset(levels))


def test_records_of_the_wanted_levels_are_mailed(office: PostOffice) -> None:
    port = office.server_address[1]
    log = logging.getLogger("sampan.test")
    with Post([box(port, logging.ERROR)]):
        log.warning("not this")
        log.error("the disk is\r\nfull: %s", "x" * 300)
    eventually(lambda: len(office.mails) == 1)
    head, _, body = office.mails[0].partition("\r\n\r\n")
    assert "Subject: [error]" in head
    assert "To: a@example.com" in head
    assert "the disk is" in body
    assert body.rstrip().endswith("sampan.test")


def test_a_server_that_is_away_is_told_and_harms_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Post([box(1, logging.ERROR)]):
        logging.getLogger("sampan.test").error("lost")
    assert "mail to 127.0.0.1:1 failed" in capsys.readouterr().err


HOOK = """
version: 0.1
storage: inmemory
log: {hooks: [{type: mail, disabled: DISABLED, levels: LEVELS, options: {smtp: {addr: 'ADDR',
  username: u, password: p, insecure: true}, from: x@y, to: [z@y]}}]}
"""


def _read(disabled: str = "false", levels: str = "[panic, error]", address: str = "m:25") -> object:
    text = HOOK.replace("DISABLED", disabled).replace("LEVELS", levels).replace("ADDR", address)
    found = check(text.encode(), {})
    assert found.problems == ()
    return settings.mailboxes(found)


def test_what_clients_choose_makes_no_header_and_is_mailed(office: PostOffice) -> None:
    text = "a\r\nBcc: evil@example.com\x1b[31m\x00 \udc80"
    record = logging.LogRecord("x", logging.ERROR, "place.py", 7, text, (), None)
    MailHandler(box(office.server_address[1], logging.ERROR)).handle(record)
    eventually(lambda: len(office.mails) == 1)
    head, _, body = office.mails[0].partition("\r\n\r\n")
    assert "\nBcc" not in head.replace("\r\n ", " ")
    assert not {"\x1b", "\x00"} & set(head + body)
    assert "\\udc80" in body


def test_hooks_are_read_from_the_configuration() -> None:
    levels = frozenset({logging.CRITICAL, logging.ERROR})
    assert _read() == [Mailbox("m", 25, "x@y", ["z@y"], levels, "u", "p", True)]
    assert _read(disabled="true") == []


@pytest.mark.parametrize("value", ["[loud]", "[]"])
def test_levels_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"log\.hooks\[0\]\.levels"):
        _read(levels=value)


@pytest.mark.parametrize("address", ["", "host", ":25", "host:x"])
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="must be host:port"):
        _read(address=address)
