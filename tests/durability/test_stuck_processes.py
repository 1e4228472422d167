"""A process that is late, stuck or in the way: no late grant, no silent end, and no door opened by it."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from tests.durability.conftest import Site
from tests.end_to_end.running import SCRIPTS, is_gone
from tests.stalls import PATIENCE_S, wait_until


def test_a_firewall_process_that_wakes_up_late_opens_nothing_and_ends_nothing(site: Site) -> None:
    os.kill(site.server.firewall_pid, signal.SIGSTOP)
    try:
        assert site.hear(site.keys.knock("web")) is Refusal.KERNEL_FAILED
    finally:
        os.kill(site.server.firewall_pid, signal.SIGCONT)
    # The late answer is now in the channel; the server must take it for what it is.
    assert site.hear(site.keys.knock("web")) == "granted"
    assert site.watch.new() == 1


def test_a_stuck_network_process_does_not_keep_the_server_from_stopping(site: Site) -> None:
    network, process = site.server.network_pid, site.server.process
    assert process is not None
    os.kill(network, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 7
    assert f"kill -9 {network}" in site.server.wait_for_log("does not end")
    os.kill(network, signal.SIGKILL)
    wait_until(lambda: is_gone(network), "the stuck process does not go")
    site.server.start()
    assert site.hear(site.keys.knock("web")) == "granted"


def test_a_second_server_leaves_the_ports_of_the_first_closed(site: Site, tmp_path: Path) -> None:
    """With another control socket it cannot ask the first; its own rules know nothing of the first one's ports."""
    text = site.server.config.read_text()
    other = tmp_path / "other.toml"
    other.write_text(text.replace("control.sock", "other.sock").replace("8443", "9443"))
    before = site.server.command("perimeter", "show").stdout
    done = site.lab.server.run([str(SCRIPTS / "spa-server"), "run", "--config", str(other)], check=False)
    assert done.returncode == 7
    assert "udp/62201 is in use" in done.stderr
    assert _without_counts(site.server.command("perimeter", "show").stdout) == _without_counts(before)
    with site.lab.server.listen_tcp(8443):
        assert site.lab.clients["stranger"].is_kept_out(site.lab.server.ipv4, 8443)


@pytest.mark.parametrize("version", [4, 6])
def test_after_a_stop_a_knock_draws_no_answer_of_any_kind(site: Site, version: int) -> None:
    """A tag left alive would let it through to a port where nobody listens, and the kernel would send an ICMP error."""
    datagram = site.keys.knock("web")
    assert site.server.stop() == 0
    to = site.lab.server.address(version)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with site.alice.host.new_socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((str(to), site.server.knock_port))
        sock.send(datagram)
        sock.settimeout(0.3)
        begun_s = time.monotonic()
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert time.monotonic() - begun_s >= 0.25


def _without_counts(ruleset: str) -> str:
    return "\n".join(line for line in ruleset.splitlines() if "packets" not in line)
