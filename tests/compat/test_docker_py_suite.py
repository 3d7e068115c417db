"""docker-py's own integration tests, unchanged, against a daemon of ours.

They are not packaged: `DOCKER_PY_SOURCE` names a checkout of docker-py's repository
(or its folder `tests` alone). What does not apply is listed here, with the reason; the page
docs/reference/compatibility.md says the same to users.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.docker_hub import OPTIONS, docker_hub

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.compat,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # docker-py leaves sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

FOLDER = "tests/integration"
FILES = (
    "api_build api_client api_container api_exec api_healthcheck api_image api_network api_volume"
    " client errors models_containers models_images models_networks models_volumes regression"
).split()

RACE = "reads the log of a command that may not have ended"
SWARM = "makes a swarm"
NOT_HERE = {
    "api_build_test.py::BuildTest::test_build_in_context_dockerfile": RACE,
    "api_build_test.py::BuildTest::test_build_in_context_abs_dockerfile": RACE,
    "api_build_test.py::BuildTest::test_build_out_of_context_dockerfile": RACE,
    "api_container_test.py::AttachContainerTest::test_run_container_reading_socket_ws": (
        "docker-py cannot open WebSockets over a Unix socket"
    ),
    "api_container_test.py::VolumeBindTest::test_create_with_binds_rw_rshared": (
        "needs /tmp on a shared mount of the host"
    ),
    "api_network_test.py::TestNetworks::test_create_network_attachable": SWARM,
    "api_network_test.py::TestNetworks::test_create_network_ingress": SWARM,
    "api_network_test.py::TestNetworks::test_create_inspect_network_with_scope": SWARM,
    "models_containers_test.py::ContainerCollectionTest::test_run_with_image_that_does_not_exist": (
        "asks Docker Hub itself after its mirror"
    ),
    "models_images_test.py::ImageCollectionTest::test_pull_with_sha": (
        "names one image of Docker Hub by its digest"
    ),
}


@pytest.fixture
def suite() -> Path:
    """Return the checkout."""
    given = os.environ.get("DOCKER_PY_SOURCE")
    if not given:
        pytest.skip("DOCKER_PY_SOURCE does not name a checkout of docker-py")
    source = Path(given).resolve()
    assert (source / FOLDER).is_dir(), f"{source} has no {FOLDER}"
    return source


@pytest.fixture
def busy() -> Iterator[Daemon]:
    """Run a daemon of its own, with what the suite pulls from Docker Hub: it removes images."""
    with running(*OPTIONS) as daemon, docker_hub(daemon.namespace):
        for image in ("busybox&tag=latest", "alpine&tag=3.10", "alpine&tag=latest"):
            answer = daemon.request("POST", f"/images/create?fromImage={image}")
            assert b"error" not in answer.body, answer.body
        yield daemon


def test_docker_pys_own_tests_pass(suite: Path, busy: Daemon) -> None:
    files = [f"{FOLDER}/{name}_test.py" for name in FILES]
    deselected = [f"--deselect={FOLDER}/{name}" for name in NOT_HERE]
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", "."]
    options = ["-p", "no:cacheprovider", "-W", "ignore", "--timeout", "60"]
    result = subprocess.run(
        [*pytest_, *options, *deselected, *files],
        cwd=suite,
        env=busy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-20_000:]
    assert " passed" in result.stdout
