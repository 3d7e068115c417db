"""What serves BuildKit's API: made when the first client asks, as gRPC costs memory."""

from __future__ import annotations

from sampan.api.buildkit.attachments import Attachments
from sampan.api.buildkit.calls import Service
from sampan.api.buildkit.control import Control
from sampan.api.buildkit.gateway import Gateway
from sampan.api.buildkit.jobs import Jobs
from sampan.api.buildkit.sessions import Sessions
from sampan.build.builder import Builder
from sampan.build.exporting.outlet import Outlet


class BuildKit:
    """The sessions, jobs and services of one engine."""

    def __init__(self, builder: Builder, outlet: Outlet, host_gateway: str = "") -> None:
        self.sessions = Sessions()
        jobs = Jobs(builder, outlet, self.sessions)
        control = Control(jobs, host_gateway)
        attachments = Attachments(control.chronicle)
        services = control, Gateway(jobs, control), attachments
        self._services = [it.service() for it in services]

    def services(self) -> list[Service]:
        """Return the tables of methods."""
        return self._services
