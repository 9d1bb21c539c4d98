"""Several hosts on this machine: network namespaces on a bridge, which can be cut off from each other."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TAG = f"{os.getpid() % 100000:x}"  # test runs side by side have bridges of their own


def missing() -> str:
    """Why there can be no such hosts here; empty where there can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2 (apt install iproute2)"
    probe = f"probe{TAG}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return f"this kernel or container allows no network namespaces ({made.stderr.strip()})"
    bridge = subprocess.run(
        ["ip", "-n", probe, "link", "add", "name", "bridge0", "type", "bridge"],
        capture_output=True,
        text=True,
    )
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return f"this kernel has no bridges ({bridge.stderr.strip()})" if bridge.returncode else ""


class Host:
    """A namespace with one address, on a bridge that lies in a namespace of its own."""

    def __init__(self, net: str, number: int) -> None:
        self.net, self.name, self.address = net, f"h{number}{TAG}", f"10.77.7.{number}"
        self._port = f"p{number}"

    def connect(self) -> None:
        _ip("netns", "add", self.name)
        _ip(
            *("-n", self.net, "link", "add", "name", self._port, "type", "veth"),
            *("peer", "name", "eth0", "netns", self.name),
        )
        _ip("-n", self.net, "link", "set", self._port, "master", "bridge0", "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", self.name, "link", "set", device, "up")

    def start(self, *command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """A process on this host, which leads a process group of its own."""
        with log.open("ab") as out:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,
            )

    def cut(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        _ip("-n", self.net, "link", "set", self._port, "down")

    def heal(self) -> None:
        _ip("-n", self.net, "link", "set", self._port, "up")


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts that see each other, and nothing else."""
    net = f"n{TAG}"
    found = [Host(net, number) for number in range(1, count + 1)]
    try:
        _ip("netns", "add", net)
        _ip("-n", net, "link", "add", "name", "bridge0", "type", "bridge")
        _ip("-n", net, "link", "set", "bridge0", "up")
        for host in found:
            host.connect()
        yield found
    finally:
        for name in (*(host.name for host in found), net):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
