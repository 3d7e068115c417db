"""What a build says: the lines of Docker's classic builder, one stage after the other.

Stages run beside each other; what a later one says waits until those before it have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from sampan.build.built import Built
from sampan.spec.build import BuildOptions
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.names import short_id

_RED = "\x1b[91m"  # moby pkg/streamformatter: what a command writes to stderr
_PLAIN = "\x1b[0m"
Say = Callable[[ProgressMessage], None]
Exporting = Callable[[str], None]  # hears of what is done with an image


class Speaker(Protocol):
    """What one stage tells of itself."""

    def say(self, message: ProgressMessage) -> None:
        """Hand on how far something is."""

    def text(self, text: str) -> None:
        """Tell what is done."""

    def output(self, stream: int, data: bytes) -> None:
        """Tell what a command has written to 1 or 2."""

    def step(self, number: int, text: str, work: str = "") -> None:
        """Tell that a step begins; the one before has ended.

        `number` counts all steps of the build. `work` is what BuildKit calls the step; "" if it is
        none to it, as it changes no more than the configuration.
        """

    def result(self, image: Callable[[], str] | None) -> None:
        """Tell which image a step has made, if anybody wants its id; None is nothing at all."""

    def cached(self) -> None:
        """Tell that the step had been made before."""

    def running(self, container: str) -> None:
        """Tell in which container a command runs."""

    def removed(self, container: str) -> None:
        """Tell that this container has gone."""

    def image(self, id: Callable[[], str]) -> None:
        """Tell what the stage has made."""

    def end(self) -> None:
        """Tell that the stage is there."""

    def fail(self, error: BaseException) -> None:
        """Tell that the stage will never be there."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One stage, as BuildKit counts."""

    name: str  # "" if there is no other
    works: int  # steps that change files


class Voices(Protocol):
    """Who listens to a build."""

    def argument(self, number: int, text: str) -> None:
        """Tell of an ARG before the first FROM."""

    def voice(self, chapter: Chapter) -> Speaker:
        """Return what one stage speaks by; the order of these calls is the order of the stages."""

    def source(self, name: str) -> AbstractContextManager[Say]:
        """Tell of something that is fetched for several stages, and of how far it is."""


class Telling(Protocol):
    """How a client of the classic endpoint hears of a build."""

    def voices(self, steps: int) -> Voices:
        """Return who listens to a build of so many steps."""

    def exporting(self) -> AbstractContextManager[Exporting]:
        """Tell that the image is stored and named."""

    def finished(self, built: Built, image: str, names: list[str]) -> None:
        """Tell what came of it."""


class Classic:
    """Tells a build as Docker's classic builder does."""

    def __init__(self, options: BuildOptions, say: Say) -> None:
        self._options, self._say = options, say

    def voices(self, steps: int) -> Voices:
        """Return who listens to a build of so many steps."""
        return Display(self._say, self._options, steps)

    def exporting(self) -> AbstractContextManager[Exporting]:
        """Tell nothing."""
        return nullcontext(lambda _: None)

    def finished(self, built: Built, image: str, names: list[str]) -> None:
        """Tell what came of it."""
        if built.unused:
            listed = " ".join(built.unused)
            self._text(f"[Warning] One or more build-args [{listed}] were not consumed\n")
        if self._options.quiet:
            self._say(ProgressMessage(stream=f"{image}\n"))
        self._text(f"Successfully built {short_id(image)}\n")
        for name in names:
            self._text(f"Successfully tagged {name}\n")
        for one in built.violations:
            if one.rule == "NoEmptyContinuation":  # all that the classic builder warns of
                self._text(f"[WARNING]: {one}\n")

    def _text(self, text: str) -> None:
        if not self._options.quiet:
            self._say(ProgressMessage(stream=text))


class Display:
    """Puts the messages of stages in order; a quiet build has none."""

    def __init__(self, say: Say, options: BuildOptions, steps: int) -> None:
        self._say, self._steps, self._quiet = say, steps, options.quiet
        self._voices: list[Voice] = []
        self._current = 0

    def argument(self, number: int, text: str) -> None:
        """Say that such a step is there."""
        if not self._quiet:
            self._say(ProgressMessage(stream=f"Step {number}/{self._steps} : {text}\n"))

    def voice(self, _: Chapter) -> Voice:
        """Return what one stage speaks by; the order of these calls is the order of the stages."""
        voice = Voice(self, len(self._voices))
        self._voices.append(voice)
        return voice

    def source(self, name: str) -> AbstractContextManager[Say]:
        """Say nothing: the classic builder has no such sources."""
        return nullcontext(lambda _: None)

    def take(self, voice: Voice, message: ProgressMessage) -> None:
        """Say something now, or keep it until it is the stage's turn."""
        if self._quiet:
            return
        if voice.number == self._current:
            self._say(message)
        else:
            voice.waiting.append(message)

    def ended(self) -> None:
        """Go on to the next stages, as far as those before have ended."""
        while self._current < len(self._voices) and self._voices[self._current].done:
            self._current += 1
            if self._current < len(self._voices):
                self._flush(self._voices[self._current])

    def failed(self, voice: Voice) -> None:
        """Say what a stage that failed has said; nothing else follows."""
        if voice.number != self._current:
            self._flush(voice)

    def _flush(self, voice: Voice) -> None:
        for message in voice.waiting:
            self._say(message)
        voice.waiting.clear()

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._steps


class Voice:
    """One stage, speaking."""

    def __init__(self, display: Display, number: int) -> None:
        self._display, self.number = display, number
        self.waiting: list[ProgressMessage] = []
        self.done = False

    def say(self, message: ProgressMessage) -> None:
        """Hand on a message."""
        self._display.take(self, message)

    def text(self, text: str) -> None:
        """Say text."""
        self.say(ProgressMessage(stream=text))

    def output(self, stream: int, data: bytes) -> None:
        """Say what a command has written; errors are red."""
        text = data.decode("utf-8", "replace")
        self.text(text if stream == 1 else f"{_RED}{text}{_PLAIN}")

    def step(self, number: int, text: str, _: str = "") -> None:
        """Say that a step begins."""
        self.text(f"Step {number}/{self._display.steps} : {text}\n")

    def result(self, image: Callable[[], str] | None) -> None:
        """Say which image a step has made; None is nothing at all."""
        self.text(f" ---> {short_id(image()) if image else ''}\n")

    def cached(self) -> None:
        """Say that the step had been made before."""
        self.text(" ---> Using cache\n")

    def running(self, container: str) -> None:
        """Say in which container a command runs."""
        self.text(f" ---> Running in {short_id(container)}\n")

    def removed(self, container: str) -> None:
        """Say that this container has gone."""
        self.text(f" ---> Removed intermediate container {short_id(container)}\n")

    def image(self, id: Callable[[], str]) -> None:
        """Tell programs what the stage has made."""
        self.say(ProgressMessage(aux={"ID": id()}))

    def end(self) -> None:
        """Let the next stage speak."""
        self.done = True
        self._display.ended()

    def fail(self, _: BaseException) -> None:
        """Say the last words."""
        self._display.failed(self)
