"""What every command of the runtime shares: the global options and the log."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

from sampan.errors import InvalidArgument

DEFAULT_ROOT = "/run/sampan-runtime"


@dataclass(frozen=True, slots=True)
class Context:
    """The global options."""

    root: str = DEFAULT_ROOT
    log: str = ""
    log_format: str = "text"
    debug: bool = False
    systemd_cgroup: bool = False

    @property
    def seccomp_cache(self) -> str:
        """Where compiled filters are kept; no container id contains an @."""
        return os.path.join(self.root, "@seccomp")

    def check(self) -> None:
        """Raise InvalidArgument for a log format that does not exist."""
        if self.log_format not in ("text", "json", ""):
            raise InvalidArgument(f'unknown log-format "{self.log_format}"')

    def warn(self, warnings: list[str]) -> None:
        """Tell what was asked for and cannot be done on this host."""
        for warning in warnings:
            if self.log:
                self._write("warning", warning)
            elif self.debug:
                sys.stderr.write(self._line("warning", warning))

    def fail(self, message: str) -> None:
        """Tell what stopped a command: in the log, and to whoever reads stderr."""
        if self.log:
            self._write("error", message)
            sys.stderr.write(message + "\n")
        else:
            sys.stderr.write(self._line("error", message))

    def _write(self, level: str, message: str) -> None:
        try:
            with open(self.log, "a", encoding="utf-8", errors="replace") as file:
                file.write(self._line(level, message))
        except OSError as error:
            sys.stderr.write(f"cannot write the log {self.log}: {error.strerror}\n")

    def _line(self, level: str, message: str) -> str:
        import json  # only those who complain need it

        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.log_format == "json":
            return json.dumps({"level": level, "msg": message, "time": now}) + "\n"
        return f'time="{now}" level={level} msg={json.dumps(message)}\n'
