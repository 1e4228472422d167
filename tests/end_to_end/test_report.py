"""`spa-server report` of a real server's trail, and the page as a real browser shows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.running import Laptop, RunningServer
from tests.lab import LabError, check_surroundings
from tests.server.report import trails
from tests.server.report.reader import Element, read
from tests.server.report.test_page import made, rows, section

BROWSER = "chromium-headless-shell"
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def browser(surroundings: None) -> None:
    """Fail, never skip, where it is missing."""
    try:
        check_surroundings({BROWSER: BROWSER})
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


def reported(server: RunningServer) -> Element:
    return read(server.command("report", "--html", "-", "--since", "1h").stdout)


def test_what_happened_at_a_server_is_in_its_report(server: RunningServer, alice: Laptop) -> None:
    alice.client("knock", "office", "web", check=True)
    alice.client("knock", "office", "nothing")
    server.command("device", "disable", "alice-laptop")
    alice.client("knock", "office", "web")
    html = reported(server)
    results = server.results()
    refused = results["unknown_service"] + results["device_disabled"]
    assert rows(section(html, "Users").all("table")[0])[0][:3] == ["alice", str(results["granted"]), str(refused)]
    reasons = {
        bar.all("text")[0].text(): bar.all("text")[1].text() for bar in section(html, "Refusals by reason").all("g")
    }
    assert reasons == {
        "unknown service": str(results["unknown_service"]),
        "device disabled": str(results["device_disabled"]),
    }
    commands = {row[2] for row in rows(section(html, "Commands of operators").all("table")[0])}
    assert {"invited", "device-disabled"} <= commands
    notes = [each.text() for each in html.all("ul")[0].all("li")]
    assert [note.partition(",")[0] for note in notes] == ["The trail begins within the period"]
    server.kill()
    server.start()
    assert "the server ended at some time here without saying so" in reported(server).text()


def shown(page: Path, *options: str) -> Image.Image:
    """The page as the browser draws it."""
    picture = page.with_suffix(".png")
    words = [BROWSER, "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,800", *options]
    subprocess.run([*words, f"--screenshot={picture}", page.as_uri()], capture_output=True, timeout=120, check=True)
    with Image.open(picture) as image:
        return image.convert("RGB")


def test_a_browser_shows_it_light_and_dark_under_its_own_policy(browser: None, tmp_path: Path) -> None:
    trail, page = tmp_path / "audit.jsonl", tmp_path / "page.html"
    trail.write_bytes(b"".join(trails.month(300, days=7)))
    page.write_text(made(trail)[0])
    light = shown(page)
    dark = shown(page, "--blink-settings=preferredColorScheme=0")
    assert light.getpixel((2, 2)) == WHITE
    # A page whose style its policy forbids would be white in both, and without the colour of its bars.
    corner = dark.getpixel((2, 2))
    assert isinstance(corner, tuple)
    assert max(corner) < 64
    for image, granted in ((light, (0x21, 0x66, 0xAC)), (dark, (0x4A, 0x90, 0xD9))):
        colours = image.getcolors(maxcolors=1 << 24)
        assert colours is not None
        assert sum(count for count, colour in colours if colour == granted) > 200
