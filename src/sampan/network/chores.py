"""What the plumber does between calls, so that no caller waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sampan.network.publishing.publishing import Publishing
from sampan.network.resolver.names import Names
from sampan.network.rulebook import Rulebook
from sampan.network.veths import Veths


class Chores:
    """Work in small pieces, and events; `serves` tells whether there is a bridge to serve."""

    def __init__(
        self,
        veths: Veths,
        publishing: Publishing,
        rules: Rulebook,
        names: Names,
        serves: Callable[[], bool],
    ) -> None:
        self._veths, self._publishing, self._rules = veths, publishing, rules
        self._names, self._serves = names, serves
        self.lock = threading.RLock()  # of all that the plumber does

    @property
    def is_left(self) -> bool:
        """Whether `work` has something to do."""
        is_urgent = self._publishing.has_stale_flows or self._rules.is_suspicious
        return self._is_short_of_stock or is_urgent or self._veths.has_dying

    @property
    def _is_short_of_stock(self) -> bool:
        return self._veths.lacks and self._serves()

    @property
    def is_short(self) -> bool:
        """Whether the next `attach` would have to make a namespace first."""
        return self._is_short_of_stock and self._veths.is_empty

    @property
    def has_surplus(self) -> bool:
        """Whether `shrink` may have something to do later."""
        return self._veths.has_surplus

    def work(self) -> None:
        """Do one piece of work: some milliseconds."""
        with self.lock:
            if self._publishing.has_stale_flows:
                self._publishing.forget_flows()
            elif self._rules.is_suspicious:
                self._rules.restore()
            elif self._is_short_of_stock:
                self._veths.refill()
            else:
                self._veths.bury(1)

    def finish(self) -> None:
        """Do all of it now."""
        while self.is_left:
            self.work()

    def shrink(self) -> None:
        """Let go of namespaces that only a burst of starts needed."""
        with self.lock:
            self._veths.shrink()

    def watched(self) -> list[int]:
        """Return descriptors to be handed to `handle` when they are readable."""
        mine = (self._rules, self._publishing, self._names)
        return [descriptor for each in mine for descriptor in each.watched()]

    def handle(self, descriptor: int) -> None:
        """Do what a readable descriptor of `watched` is about."""
        with self.lock:
            self._rules.handle(descriptor)
            self._publishing.handle(descriptor)
            self._names.handle(descriptor)
