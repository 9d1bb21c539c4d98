"""A real sshd on this machine, and `kind = "ssh"` through it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.encryption import make_certificates
from tests.faults.test_slurm import free_ports
from tests.faults.world import outputs, prepare

SSHD = shutil.which("sshd") or (p if os.access(p := "/usr/sbin/sshd", os.X_OK) else None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="needs sshd: apt install openssh-server"),
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a sshd that lets in needs root"
    ),
]
CONF = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile {folder}/pid
AuthorizedKeysFile {folder}/user.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
"""
CLIENT = """\
Host here
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user
  UserKnownHostsFile {folder}/known
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a home of its own, in whose SSH configuration `here` is this machine by sshd."""
    pytest.importorskip("asyncssh", reason="needs asyncssh: pip install '.[ssh]'")
    import getpass

    folder = tmp_path_factory.mktemp("ssh")
    (port,) = free_ports(1)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    (folder / "conf").write_text(CONF.format(port=port, folder=folder))
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "config").write_text(CLIENT.format(port=port, folder=folder, user=getpass.getuser()))
    public = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public}")
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={":".join(filter(None, sys.path))}\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd confines its unprivileged half
    log = (folder / "log").open("wb")
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "conf")], stderr=log)
    try:
        began = time.monotonic()
        while b"Server listening" not in (folder / "log").read_bytes():
            assert time.monotonic() - began < 30, (folder / "log").read_text()
            time.sleep(0.05)  # waiting for a daemon, which tells nobody when it is ready
        yield folder
    finally:
        server.terminate()
        server.wait()


def test_a_job_through_ssh_has_the_same_bits(
    remote: Path, calm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(remote))  # where asyncssh looks for its configuration
    job = prepare(tmp_path, "far", "ssh")
    keys = {"python": str(remote / "python")} | make_certificates(tmp_path / "keys")
    told = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    job.write_text(f'{job.read_text()}hosts = ["here", "here"]\n{told}')
    (outcome,) = work.run(load_job(job))
    assert outcome.published, outcome.faults()
    assert outputs(tmp_path / "far") == calm
    assert subprocess.run(["pgrep", "-f", str(remote / "python")], capture_output=True).stdout == b""
