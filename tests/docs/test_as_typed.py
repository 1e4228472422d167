"""The documentation, typed as it stands: a new user installs a server and a laptop, knocks, and operates the service.

All on one booted machine, in the order of the pages: first the README, then docs/observability.md and
docs/operations.md, whose last block takes the service off again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, commands_in_tables
from tests.docs.reader import CURL, HOME, SSH, Reader
from tests.lab import Host, Lab
from tests.systemd.machine import Machine, MachineError
from tests.systemd.talking import listening

README = ROOT / "README.md"
KEY = "alice-laptop"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def lab(surroundings: None) -> Iterator[Lab]:
    with Lab(clients=("laptop", "stranger")) as made, listening(made.server, 8443):
        yield made


@pytest.fixture(scope="module")
def reader(lab: Lab) -> Iterator[Reader]:
    """The reader, who has come as far as the end of the README's installation of a server."""
    with tempfile.TemporaryDirectory(prefix="spa-docs-") as name:
        folder = Path(name)
        (folder / "machine").mkdir()
        try:
            with Machine(lab.server, folder / "machine") as machine:
                made = Reader(machine, lab.clients["laptop"], folder)
                made.as_root(without_fetching(block_with(README, "spa-server install")))
                yield made
        except MachineError as error:
            pytest.fail(str(error), pytrace=False)


def test_the_readme_leads_from_nothing_to_an_open_port(reader: Reader, lab: Lab) -> None:
    stranger = lab.clients["stranger"]
    invite = last_line(reader.as_root(block_with(README, "spa-server install").splitlines()[-1]))
    reader.on_the_laptop(f"python3 -m venv {HOME}/venv")
    reader.on_the_laptop(block_with(README, "spa-client join").replace("spa-invite1...", invite))
    for program, text in (("curl", CURL), ("ssh", SSH)):
        reader.on_the_laptop(
            f"mkdir -p {HOME}/bin; cat >{HOME}/bin/{program} <<'END'\n{text}END\nchmod +x {HOME}/bin/*"
        )
    assert lab.clients["laptop"].is_kept_out(lab.server.ipv4, 8443)
    said = reader.on_the_laptop(block_with(README, "spa-client knock"))
    assert "open: web (tcp/8443)" in said
    assert "for 120 s" in said
    assert reaches_both(lab.clients["laptop"], lab)
    assert stranger.is_kept_out(lab.server.ipv4, 8443)
    assert KEY in reader.as_root("spa-server lease list")
    script = next(block for block in blocks(README, "sh") if "ssh -p" in block)
    assert "ssh -p 8443 admin@gw.example.org uptime" in reader.on_the_laptop(script)
    python = next(iter(blocks(README, "python")))
    fetched = reader.on_the_laptop(f"python3 - <<'END'\nfetch = print\n{python}\nEND")
    assert "https://gw.example.org:8443/" in fetched


def test_the_commands_of_the_readme_do_what_they_are_said_to(reader: Reader, lab: Lab) -> None:
    if KEY not in reader.as_root("spa-server device list"):
        enrol(reader)
    reader.on_the_laptop("spa-client knock office")
    may_end_with = {"doctor": "|| [ $? = 8 ]", "why": "|| [ $? = 3 ]"}
    for words in commands_in_tables(README):
        line = " ".join(words) + (" --yes" if words[1:3] == ["perimeter", "remove"] else "")
        if words[1:3] == ["perimeter", "keep"] or words[1] == "run":
            continue
        if "--watch" in words:
            # It takes a terminal, and goes on until q is pressed.
            line = f"(sleep 2; printf q) | TERM=xterm script --quiet --return --command '{line}' /dev/null"
        reader.as_root(f"{line} {may_end_with.get(words[1], '')}")
    reader.as_root("spa-server perimeter apply")


def test_the_queries_of_the_log_are_taken_by_journalctl(reader: Reader) -> None:
    for line in block_with(ROOT / "docs/observability.md", "journalctl").splitlines():
        reader.as_root(f"{line} --no-pager || [ $? = 1 ]")  # 1: no such entry


def test_the_operations_can_be_typed_from_top_to_bottom(reader: Reader, lab: Lab) -> None:
    if KEY not in reader.as_root("spa-server device list"):
        enrol(reader)
    stranger, pages = lab.clients["stranger"], blocks(ROOT / "docs/operations.md", "console")
    for block in pages[:-1]:
        said = reader.as_root(block)
        assert stranger.is_kept_out(lab.server.ipv4, 8443), block
        if "device list" in block:
            assert KEY in said, "the restored registry does not know the device"
    reader.as_root(pages[-1])
    assert stranger.reaches_tcp(lab.server.ipv4, 8443), "the service is still there"


def enrol(reader: Reader) -> None:
    """Enough of the README for the laptop to knock."""
    test = block_with(README, "spa-client join")
    invite = last_line(reader.as_root(f"spa-server invite {KEY} --user alice --role admin"))
    reader.on_the_laptop(f"[ -d {HOME}/venv ] || python3 -m venv {HOME}/venv")
    reader.on_the_laptop(test.replace("spa-invite1...", invite))


def block_with(page: Path, words: str) -> str:
    """The first block of the page in which they are."""
    return next(block for block in blocks(page, "console") if words in block)


def without_fetching(block: str) -> str:
    """The installation, whose Debian packages this Debian has."""
    first, *others = block.splitlines()
    packages = first.removeprefix("apt-get install -y ").split()
    assert packages != first.split()
    # The last line is the invite, which is read by whoever needs it.
    return "\n".join([f"dpkg-query --status {' '.join(packages)} >/dev/null", *others[:-1]])


def last_line(said: str) -> str:
    return said.strip().splitlines()[-1]


def reaches_both(host: Host, lab: Lab) -> bool:
    return all(host.reaches_tcp(address, 8443) for address in (lab.server.ipv4, lab.server.ipv6))
