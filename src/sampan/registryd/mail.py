"""Log records that are sent by mail, as docker-registry's hook of the type `mail` does.

Source: distribution registry/handlers/mail.go, hooks.go. A thread sends: no request waits for it.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import smtplib
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

from sampan.registryd.logs import shown

TIMEOUT = 30.0
WAITING_LIMIT = 1000  # records; more are not sent while the server is slow
LEVELS = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


@dataclass(frozen=True)
class Mailbox:
    """Where mail goes, and how."""

    host: str
    port: int
    sender: str
    receivers: Sequence[str]
    levels: frozenset[int]
    user: str = ""
    password: str = ""
    insecure: bool = False  # take any certificate


class MailHandler(logging.Handler):
    """Sends each record of the wanted levels as one mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno in self._mailbox.levels

    def emit(self, record: logging.LogRecord) -> None:
        box = self._mailbox
        text = shown(record.getMessage())
        mail = EmailMessage()
        level = record.levelname.lower()
        first = " ".join(text.split())[:200]
        mail["Subject"] = f"[{level}] {socket.gethostname()}: {first}"
        mail["From"], mail["To"] = box.sender, ", ".join(box.receivers)
        mail.set_content(f"{text}\n\n{record.name}\n")
        try:
            with smtplib.SMTP(box.host, box.port, timeout=TIMEOUT) as server:
                server.ehlo()
                if server.has_extn("starttls"):
                    server.starttls(context=self._context())
                if box.user:
                    server.login(box.user, box.password)
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            # To the log itself this must not go: it would be mailed in its turn.
            sys.stderr.write(f"mail to {box.host}:{box.port} failed: {error}\n")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._mailbox.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Post:
    """Takes records from the root logger and hands them to the mail handlers, in a thread."""

    def __init__(self, mailboxes: Sequence[Mailbox]) -> None:
        waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING_LIMIT)
        self._entry = _Entry(waiting)
        handlers = [MailHandler(box) for box in mailboxes]
        self._listener = logging.handlers.QueueListener(waiting, *handlers)

    def __enter__(self) -> Post:
        self._listener.start()
        logging.getLogger().addHandler(self._entry)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._entry)
        self._listener.stop()


class _Entry(logging.handlers.QueueHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The queue is full: that record is in the log, and is not mailed."""
