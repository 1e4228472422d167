"""server.toml: the template, where each key goes, and that nothing in the file does more than be refused."""

from __future__ import annotations

import re
import tempfile
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_server.addresses import LoopbackPort
from spa_server.config import ConfigError, ServerConfig, load
from spa_server.config_template import template
from spa_server.risk_table import RiskSettings
from spa_server.service import ForwardTarget, OnExpiry, PortRange, SourcePolicy

TEMPLATE = template(["vpn.example.org"])
EXAMPLES = [line for line in TEMPLATE.splitlines() if re.match(r"#[a-z]", line)]
SERVER = '[server]\naddresses = ["192.0.2.1"]\n'
SERVICE = '[service.web]\ntcp = [8443]\nroles = ["admin"]\n'
WEB = SERVER + SERVICE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.toml"


def read(path: Path, content: str) -> ServerConfig:
    path.write_text(content)
    return load(path)


def problems(path: Path, content: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(path, content)
    assert len(str(caught.value).splitlines()) == len(caught.value.problems)
    return str(caught.value).splitlines()


def test_the_template_loads_and_shows_the_defaults(path: Path) -> None:
    config = read(path, TEMPLATE)
    assert config == ServerConfig(
        path=path,
        addresses=("vpn.example.org",),
        listen=(IPv4Address("0.0.0.0"), IPv6Address("::")),
        knock_port=62201,
        more_knock_ports=(),
        state_folder=Path("/var/lib/spa"),
        control_socket=Path("/run/spa/control.sock"),
        user="spa",
        max_skew_s=60,
        slots=16,
        delegate_slots=8,
        max_delegation_s=604_800,
        replies=True,
        services=config.services,
        audit_file=Path("/var/lib/spa/audit.jsonl"),
        audit_file_mib=64,
        audit_files=8,
        audit_required=True,
        metrics=None,
        policy_file=None,
        risk=RiskSettings(),
    )
    (web,) = config.services
    assert (web.name, web.tcp, web.udp, web.roles) == ("web", (PortRange(8443, 8443),), (), frozenset({"admin"}))
    assert (web.lease_s, web.max_lease_s, web.source, web.on_expiry) == (30, 300, SourcePolicy.SEEN, OnExpiry.CUT)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_template_is_valid(path: Path, example: str) -> None:
    read(path, TEMPLATE.replace(f"\n{example}\n", f"\n{example[1:]}\n"))


def test_the_template_shows_every_key_and_its_true_default(path: Path) -> None:
    shown = {re.split(r"[ =]", line.lstrip("#"))[0] for line in TEMPLATE.splitlines() if re.match(r"#?[a-z_]+ =", line)}
    unknown_in_risk = "[approval]\nzzzzzzzz = 1\n[risk]\nzzzzzzzz = 1\n[risk.weights]\nzzzzzzzz = 1\n"
    said = " ".join(problems(path, SERVER + "zzzzzzzz = 1\n[service.web]\nzzzzzzzz = 1\n" + unknown_in_risk))
    known = {key for listed in re.findall(r"known here: ([a-z_, ]+)", said) for key in listed.strip().split(", ")}
    tables = set(re.findall(r"^\[risk\.([a-z]+)\]$", TEMPLATE, re.MULTILINE))
    assert {re.sub(r" server.*", "", key) for key in known} == shown | tables
    plain = read(path, TEMPLATE)
    not_defaults = (
        "#more_knock_ports",
        "#udp",
        "#hosts",
        "#forward_to",
        "#metrics",
        "#policy_file",
        "#groups",
        "#hook",
        "#webhook",
    )
    of_risk = ("#block", "#block_file", "#location_file")
    content = TEMPLATE
    for example in EXAMPLES:
        if not example.startswith((*not_defaults, *of_risk)):
            content = content.replace(f"\n{example}\n", f"\n{example[1:]}\n")
    assert read(path, content) == plain


@pytest.mark.parametrize("address", ["vpn.example.org", "server", "192.0.2.1", "2001:db8::1", "a-b.c9", "::1"])
def test_the_template_takes_what_clients_can_reach(path: Path, address: str) -> None:
    assert read(path, template([address])).addresses == (address,)


@pytest.mark.parametrize(
    "address",
    ["", "a b", 'x"\n', "1.2.3", "192.0.2.1:80", "[::1]", "::", "0.0.0.0", "fe80::1%eth0", "a..b", "-a", "a" * 64],
)
def test_the_template_refuses_what_no_client_can_reach(address: str) -> None:
    with pytest.raises(ValueError, match="host name or an IP address"):
        template([address])


def test_the_template_carries_what_is_not_the_default_whole(path: Path) -> None:
    name = ".".join(["abcdefghi"] * 12)
    folder = "/srv/" + 'a long "path" \\ of \N{GRINNING FACE} ' + "x" * 60
    config = read(path, template([name, "::1"], state_folder=folder, control_socket="/srv/control", user="gate"))
    assert config.addresses == (name, "::1")
    assert (config.state_folder, config.control_socket, config.user) == (Path(folder), Path("/srv/control"), "gate")


@pytest.mark.parametrize("count", [0, 5])
def test_the_template_takes_one_to_four_addresses(count: int) -> None:
    with pytest.raises(ValueError, match="one to 4"):
        template(["192.0.2.1"] * count)


def test_every_key_reaches_its_place(path: Path) -> None:
    config = read(
        path,
        """
        [server]
        addresses = ["2001:db8::1"]
        listen = ["192.0.2.1"]
        knock_port = 5000
        more_knock_ports = [443, 53]
        state_folder = "/srv/spa"
        control_socket = "/srv/control"
        user = "_spa-2"
        max_skew_s = 30
        slots = 32
        replies = false
        [service.files]
        tcp = [22, "8000-8010"]
        udp = [5000, 22]
        roles = ["dev", "admin"]
        lease_s = 60
        max_lease_s = 60
        source = "signed"
        on_expiry = "keep"
        hosts = ["10.0.0.1", "fd00::1"]
        [service.inner]
        tcp = [443]
        udp = [8443]
        roles = ["dev"]
        forward_to = ["10.0.0.5:443", "[fd00::5]:8443"]
        masquerade = true
        """.replace("5000, 22]", "5001, 22]"),
    )
    assert (config.knock_port, config.knock_ports) == (5000, (5000, 443, 53))
    assert (config.slots, config.replies, config.user) == (32, False, "_spa-2")
    files, inner = config.services
    assert files.tcp == (PortRange(22, 22), PortRange(8000, 8010))
    assert files.hosts == (IPv4Address("10.0.0.1"), IPv6Address("fd00::1"))
    assert (files.source, files.on_expiry) == (SourcePolicy.SIGNED, OnExpiry.KEEP)
    assert inner.forward_to == (
        ForwardTarget(IPv4Address("10.0.0.5"), 443),
        ForwardTarget(IPv6Address("fd00::5"), 8443),
    )
    assert inner.masquerade


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(TEMPLATE)),
        st.integers(0, 20),
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(["=", '"', "[", "]", "[[", "]]", "\n", "#", "true", "-1", "{}", "1e9", "nan"]),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(MUTATIONS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_whatever_is_in_the_file_it_loads_or_is_a_config_error(
    mutations: list[tuple[int, int, str]], uncomment: bool
) -> None:
    content = re.sub(r"(?m)^#(?=[a-z])", "", TEMPLATE) if uncomment else TEMPLATE
    for place, length, text in mutations:
        content = content[:place] + text + content[place + length :]
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content.encode("utf-8", "surrogatepass"))
        file.flush()
        try:
            load(Path(file.name))
        except ConfigError as error:
            assert error.problems  # noqa: PT017  both outcomes are allowed; an error must say something
            assert len(str(error).splitlines()) == len(error.problems)  # noqa: PT017  as above


@pytest.mark.parametrize("place", ["127.0.0.1:9462", "[::1]:9462", "127.9.9.9:1"])
def test_metrics_are_told_on_a_loopback_port(path: Path, place: str) -> None:
    metrics = read(path, SERVER + f'metrics = "{place}"\n' + SERVICE).metrics
    assert isinstance(metrics, LoopbackPort)
    assert metrics.address.is_loopback


def test_or_on_a_unix_socket(path: Path) -> None:
    assert read(path, SERVER + 'metrics = "/run/spa/metrics.sock"\n' + SERVICE).metrics == Path("/run/spa/metrics.sock")


@pytest.mark.parametrize(
    "place", ["0.0.0.0:9462", "192.0.2.1:9462", "[::]:9462", "localhost:9462", ":9462", "127.0.0.1", "::1:9462", "9462"]
)
def test_and_nowhere_else(path: Path, place: str) -> None:
    (problem,) = problems(path, SERVER + f'metrics = "{place}"\n' + SERVICE)
    assert "server.metrics" in problem
    assert "loopback" in problem


def test_the_audit_trail_is_beside_the_state_unless_it_is_put_elsewhere(path: Path) -> None:
    assert read(path, SERVER + 'state_folder = "/srv/spa"\n' + SERVICE).audit_file == Path("/srv/spa/audit.jsonl")
    assert read(path, SERVER + 'audit_file = "/var/log/spa/audit.jsonl"\n' + SERVICE).audit_file.parent == Path(
        "/var/log/spa"
    )
