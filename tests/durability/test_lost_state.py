"""The state file gone or damaged: nothing opens, the server says what to do, and what people do about it works."""

from __future__ import annotations

import shutil
from pathlib import Path

from spa_protocol.refusal import Refusal
from tests.durability.conftest import Site
from tests.end_to_end.laptop import Laptop
from tests.stalls import PATIENCE_S, wait_until

STATE = "state.sqlite3"


def test_a_state_that_is_deleted_under_the_server_opens_nothing_until_it_is_back(site: Site) -> None:
    aside = site.server.folder / "aside"
    assert site.hear(site.keys.knock("web")) == "granted"
    (site.server.state / STATE).rename(aside)
    mark = site.server.log_lines()
    assert site.hear(site.keys.knock("web")) is Refusal.NOT_RECORDED
    line = site.server.wait_for_log("deleted or moved away", since=mark)
    assert " ERROR " in line
    assert "put back a copy" in line
    assert "deleted or moved away" in site.server.status()["fault"]
    assert site.watch.new() == 1
    aside.rename(site.server.state / STATE)
    wait_until(lambda: site.server.status()["fault"] == "", "no fault")
    assert site.hear(site.keys.knock("web")) == "granted"
    assert "Traceback" not in site.server.log()


def test_a_damaged_state_is_kept_and_people_come_back_from_an_export(site: Site) -> None:
    export = site.server.command("device", "export").stdout
    site.server.stop()
    path = site.server.state / STATE
    for name in (f"{STATE}-wal", f"{STATE}-shm"):
        (site.server.state / name).unlink(missing_ok=True)
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    process = site.server.launch()
    assert process.wait(PATIENCE_S) == 5
    said = site.server.wait_for_log("nobody can knock until then")
    (copy,) = site.server.state.glob(f"{STATE}.corrupt-*")
    assert str(copy) in said
    assert copy.read_bytes() == path.read_bytes()
    assert "init --state-only" in said
    assert "device import" in said
    with site.lab.server.listen_tcp(8443):
        assert site.alice.host.is_kept_out(site.lab.server.ipv4, 8443)

    path.unlink()
    site.server.command("init", "--state-only")
    assert site.server.command("init", "--state-only", check=False).returncode == 3, "there is one now"
    site.server.command("device", "import", "-", input=export)
    site.server.start()
    assert [device["label"] for device in site.server.json("device", "list")] == ["alice-laptop"]
    # What she used before is not known any more, so her knocks of these minutes stay shut.
    assert site.hear(site.keys.knock("web"), patience_s=0.3) != "granted"


def test_a_copy_put_in_place_is_gone_by_after_a_restart(site: Site, tmp_path: Path) -> None:
    path = site.server.state / STATE
    site.server.stop()
    backup = tmp_path / STATE
    shutil.copy(path, backup)
    site.server.start()
    fresh = path.with_name("fresh")
    shutil.copy(backup, fresh)
    shutil.chown(fresh, "nobody", "nogroup")
    fresh.chmod(0o600)
    fresh.rename(path)
    mark = site.server.log_lines()
    assert site.hear(site.keys.knock("web")) is Refusal.NOT_RECORDED
    site.server.wait_for_log("another file was put in its place; restart", since=mark)
    for name in (f"{STATE}-wal", f"{STATE}-shm"):
        (site.server.state / name).unlink(missing_ok=True)
    site.server.kill()
    site.server.start()
    laptop: Laptop = site.alice
    assert laptop.keys().perimeter == site.keys.perimeter
    assert site.server.status()["fault"] == ""
