"""Debian's kernel under qemu: pure cgroup v2, systemd and AppArmor (`./check --slow`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import machine
from tests.kernels import LACKS


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.privileged
@pytest.mark.timeout(machine.PATIENCE + 600)
def test_the_chosen_tests_pass_on_debians_kernel(tmp_path: Path) -> None:
    outcomes = machine.run(["-m", "kernel", *machine.chosen_files()], tmp_path)
    bad = [each for each in outcomes if each.verdict in ("failed", "error") or LACKS in each.text]
    assert not bad, "\n\n".join(f"{each.name} {each.verdict}: {each.text}" for each in bad)
    assert sum(each.verdict == "passed" for each in outcomes) > 10
