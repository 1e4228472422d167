"""Every kind of mistake in server.toml in its own words, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from spa_server.config import ConfigError, ServerConfig, load

SERVER = '[server]\naddresses = ["192.0.2.1"]\n'
WEB = SERVER + '[service.web]\ntcp = [8443]\nroles = ["admin"]\n'


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


PORTS = 'ports from 1 to 65535, as numbers or ranges such as "9000-9010"'
ROLE = "a role: lower-case letters, digits, '-', first a letter"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lease_s = 0", "service.web.lease_s: 0 is not allowed; it takes a whole number of seconds from 1 to 86400"),
        ("lease_s = true", "service.web.lease_s: true is not allowed; it takes a whole number of seconds from 1"),
        ("lease_s = 30.0", "service.web.lease_s: 30.0 is not allowed"),
        ('lease_s = "30"', 'service.web.lease_s: "30" is not allowed'),
        ("lease_s = 301", "service.web.lease_s: 301 is not allowed; it takes at most max_lease_s, 300"),
        ("max_lease_s = 29", "service.web.max_lease_s: 29 is not allowed; it takes at least lease_s, 30"),
        ("max_lease_s = 86401", "service.web.max_lease_s: 86401 is not allowed"),
        ("leas_s = 5", "service.web.leas_s: unknown key; did you mean lease_s?"),
        ("Tcp = [1]", "service.web.Tcp: unknown key; did you mean tcp?"),
        ('"a\\u001bb" = 5', 'service.web."a\\u001bb": unknown key'),
        ('source = "Seen"', 'service.web.source: "Seen" is not allowed; it takes "signed" or "seen"'),
        ("source = 1", 'service.web.source: 1 is not allowed; it takes "signed" or "seen"'),
        ('on_expiry = "drop"', 'service.web.on_expiry: "drop" is not allowed; it takes "cut" or "keep"'),
        ("masquerade = 1", "service.web.masquerade: 1 is not allowed; it takes true or false"),
        ("masquerade = true", "service.web.masquerade: true is not allowed; it takes true only beside forward_to"),
        ("udp = []", f"service.web.udp: [] is not allowed; it takes a list of {PORTS}"),
        ("udp = 53", f"service.web.udp: 53 is not allowed; it takes a list of {PORTS}"),
        ("udp = [0]", f"service.web.udp: 0 is not allowed; it takes {PORTS}"),
        ("udp = [true]", f"service.web.udp: true is not allowed; it takes {PORTS}"),
        ("udp = [65536]", "service.web.udp: 65536 is not allowed"),
        ('udp = ["9-8"]', 'service.web.udp: "9-8" is not allowed'),
        ('udp = ["\u0661-\u0662"]', "service.web.udp: "),
        ('udp = ["53"]', 'service.web.udp: "53" is not allowed'),
        ("udp = [53, 53]", "service.web.udp: 53 a second time is not allowed"),
        ('udp = [53, "50-60"]', "service.web.udp: port 53 a second time is not allowed; it takes each port once"),
        ('udp = ["1-256"]', "service.web.udp: 257 ports is not allowed; it takes at most 256 in one service"),
        ("udp = [62201]", "service.web.udp: udp port 62201 is not allowed; it takes any port but server.knock_port"),
        ('hosts = "10.0.0.1"', 'service.web.hosts: "10.0.0.1" is not allowed; it takes a list of addresses'),
        ("hosts = [5]", "service.web.hosts: 5 is not allowed; it takes an IPv4 or IPv6 address"),
        ('hosts = ["web.example"]', 'service.web.hosts: "web.example" is not allowed'),
        ('hosts = ["fe80::1%eth0"]', 'service.web.hosts: "fe80::1%eth0" is not allowed; it takes an IPv4 or IPv6'),
        ('hosts = ["::ffff:10.0.0.1"]', "; write this one as 10.0.0.1"),
        ('hosts = ["224.0.0.1"]', "no multicast or broadcast address"),
        ('hosts = ["ff02::1"]', "no multicast or broadcast address"),
        ('hosts = ["255.255.255.255"]', "no multicast or broadcast address"),
        ('hosts = ["0.0.0.0"]', "not the unspecified address"),
        ('hosts = ["::"]', "not the unspecified address"),
        ('hosts = ["10.0.0.1", "10.0.0.1"]', 'service.web.hosts: "10.0.0.1" a second time is not allowed'),
        ('forward_to = "10.0.0.5"', 'it takes an inner host and port such as "10.0.0.5:443" or "[fd00::5]:443"'),
        ('forward_to = "10.0.0.5:0"', "it takes an inner host and port"),
        ('forward_to = "10.0.0.5:65536"', "it takes an inner host and port"),
        ('forward_to = "fd00::5:443"', "it takes an inner host and port"),
        ('forward_to = "[10.0.0.5]:443"', "it takes an inner host and port"),
        ('forward_to = "inner.example:443"', "it takes an inner host and port"),
        ('forward_to = "[fe80::1%eth0]:443"', "without a zone"),
        ('forward_to = "[fe80::1]:443"', "no loopback or link-local"),
        ('forward_to = "127.0.0.1:443"', "no loopback or link-local"),
        ('forward_to = "[::]:443"', "not the unspecified address"),
        ("forward_to = {}", "service.web.forward_to: a table is not allowed"),
        ('forward_to = ["10.0.0.5:1", "10.0.0.6:1"]', "it takes at most one target a family (IPv4, IPv6)"),
        (
            'hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]\nudp = ["1-250"]',
            "service.web.hosts: 5 hosts is not allowed; it takes at most 1024 pairs of a host and a port",
        ),
        ('forward_to = "10.0.0.5:1"\nudp = [1, 2]', "service.web.udp: 2 ports is not allowed; it takes a single port"),
    ],
)
def test_a_mistake_in_a_service_names_its_key_and_what_is_allowed(path: Path, line: str, said: str) -> None:
    (only,) = problems(path, f"{WEB}{line}\n")
    assert only.startswith("server.toml: service.web.")
    assert said in only


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("listen = []", "server.listen: [] is not allowed; it takes a list of addresses"),
        ('listen = ["eth0"]', 'server.listen: "eth0" is not allowed; it takes an IPv4 or IPv6 address of this host'),
        ('listen = ["fe80::1%eth0"]', "without a zone"),
        ("knock_port = true", "server.knock_port: true is not allowed; it takes a whole number from 1 to 65535"),
        ("knock_port = 0", "server.knock_port: 0 is not allowed"),
        ("more_knock_ports = 443", "server.more_knock_ports: 443 is not allowed; it takes a list of UDP ports"),
        (
            "more_knock_ports = [0]",
            "server.more_knock_ports: 0 is not allowed; it takes a whole number from 1 to 65535",
        ),
        ("more_knock_ports = [65536]", "server.more_knock_ports: 65536 is not allowed"),
        ('more_knock_ports = ["443"]', 'server.more_knock_ports: "443" is not allowed'),
        ("more_knock_ports = [443, 443]", "server.more_knock_ports: 443 a second time is not allowed"),
        (
            "more_knock_ports = [443, 62201]",
            "server.more_knock_ports: 62201 is not allowed; it takes ports other than server.knock_port",
        ),
        (
            "more_knock_ports = [53, 123, 443, 500]",
            "server.more_knock_ports: 4 ports is not allowed; it takes at most 3",
        ),
        ('state_folder = "var/lib"', 'server.state_folder: "var/lib" is not allowed; it takes an absolute path'),
        ('state_folder = "/var/../etc"', "it takes an absolute path"),
        ('state_folder = "/a\\u0000b"', "it takes an absolute path"),
        (f'control_socket = "/{"x" * 107}"', "it takes an absolute path of at most 107 bytes"),
        ('user = "root"', 'server.user: "root" is not allowed; it takes the name of a system user other than root'),
        ('user = "0"', 'server.user: "0" is not allowed'),
        ("max_skew_s = 601", "server.max_skew_s: 601 is not allowed; it takes a whole number of seconds from 1 to 600"),
        ("slots = 15", "server.slots: 15 is not allowed; it takes a whole number from 16 to 64"),
        ('replies = "no"', 'server.replies: "no" is not allowed; it takes true or false'),
        ("adresses = 1", "server.adresses: unknown key; did you mean addresses?"),
    ],
)
def test_a_mistake_in_the_server_table_names_its_key_and_what_is_allowed(path: Path, line: str, said: str) -> None:
    (only,) = problems(path, WEB.replace("[server]\n", f"[server]\n{line}\n"))
    assert only.startswith("server.toml: server.")
    assert said in only


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("risk = 5", "risk: 5 is not allowed; it takes a table"),
        ("[risk]\nenabled = 1", "risk.enabled: 1 is not allowed; it takes true or false"),
        ("[risk]\nstep_up_form = 5", "risk.step_up_form: unknown key; did you mean step_up_from?"),
        ("[risk]\nstep_up_from = 0", "risk.step_up_from: 0 is not allowed; it takes a whole number from 1 to 100"),
        ("[risk]\nrefuse_from = 101", "risk.refuse_from: 101 is not allowed; it takes a whole number from 1 to 100"),
        ("[risk]\nstep_up_from = 61", "risk.step_up_from: 61 is not allowed; it takes at most refuse_from, 60"),
        ("[risk]\nrefuse_from = 29", "risk.refuse_from: 29 is not allowed; it takes at least step_up_from, 30"),
        (
            "[risk]\nstep_up_from = 20",
            "risk.step_up_from: 20 is not allowed; it takes more than risk.weights.invalid_knocks_most, 20",
        ),
        ("[risk]\nblock = []", "risk.block: [] is not allowed; it takes a list of networks"),
        ('[risk]\nblock = "192.0.2.0/24"', 'risk.block: "192.0.2.0/24" is not allowed; it takes a list of networks'),
        (
            '[risk]\nblock = ["office"]',
            'risk.block: "office" is not allowed; it takes a network such as "192.0.2.0/24"',
        ),
        ("[risk]\nblock = [5]", "risk.block: 5 is not allowed; it takes a network"),
        ('[risk]\nblock = ["192.0.2.1/24"]', "; write this one as 192.0.2.0/24"),
        ('[risk]\nblock = ["fe80::1%eth0"]', "without a zone"),
        ('[risk]\nblock = ["::ffff:192.0.2.0/120"]', "; write an IPv4 address as one"),
        ('[risk]\nblock = ["::1", "::1"]', 'risk.block: "::1" a second time is not allowed'),
        ('[risk]\nblock_file = "block.txt"', 'risk.block_file: "block.txt" is not allowed; it takes an absolute path'),
        ("[risk]\nlocation_file = 5", "risk.location_file: 5 is not allowed; it takes an absolute path"),
        (
            '[risk]\nlocation_file = "/etc/spa/places.txt"',
            "it takes the absolute path of a file whose name ends in .csv or .mmdb",
        ),
        ("[risk]\nweights = 5", "risk.weights: 5 is not allowed; it takes a table"),
        (
            "[risk.weights]\nold_key = 101",
            "risk.weights.old_key: 101 is not allowed; it takes a whole number from 0 to 100",
        ),
        ("[risk.weights]\nold_keys = 1", "risk.weights.old_keys: unknown key; did you mean old_key?"),
        (
            "[risk.weights]\ninvalid_knocks_most = 30",
            "risk.weights.invalid_knocks_most: 30 is not allowed; it takes less than risk.step_up_from, 30",
        ),
    ],
)
def test_a_mistake_in_the_risk_table_names_its_key_and_what_is_allowed(path: Path, lines: str, said: str) -> None:
    (only,) = problems(path, f"{lines}\n{WEB}" if lines.startswith("risk") else f"{WEB}{lines}\n")
    assert only.startswith("server.toml: risk")
    assert said in only


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["service: there is no service", "server.addresses: this is missing"]),
        (SERVER, ["service: there is no service"]),
        (
            SERVER + "[services.web]\ntcp = [1]\n",
            ["services: unknown key; did you mean service?", "there is no service"],
        ),
        (SERVER + "[service]\nweb = 1\n", ["service.web: 1 is not allowed; it takes a table [service.web]"]),
        ("service = 1\n" + SERVER, ["service: 1 is not allowed; it takes a table", "there is no service"]),
        (SERVER + "[service.web]\nroles = ['a']\n", ["service.web.tcp: there is no port"]),
        (SERVER + "[service.web]\ntcp = [1]\n", ["service.web.roles: this is missing"]),
        (SERVER + "[service.web]\ntcp = [1]\nroles = []\n", ["service.web.roles: [] is not allowed"]),
        (
            SERVER + "[service.web]\ntcp = [1]\nroles = ['A']\n",
            [f'service.web.roles: "A" is not allowed; it takes {ROLE}'],
        ),
        (SERVER + "[service.Web]\ntcp = [1]\nroles = ['a']\n", ['service: "Web" is not allowed; it takes a name']),
        (
            WEB + "[service.ssh]\ntcp = ['8400-8500']\nroles = ['a']\n",
            ["service.ssh.tcp: port 8443 is not allowed; it takes ports of its own; web has this one"],
        ),
    ],
)
def test_what_the_file_as_a_whole_must_have(path: Path, content: str, said: list[str]) -> None:
    found = problems(path, content)
    assert len(found) == len(said)
    for part in said:
        assert any(part in line for line in found)


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ("[]", "server.addresses: [] is not allowed; it takes a list of names or addresses"),
        ('"192.0.2.1"', 'server.addresses: "192.0.2.1" is not allowed; it takes a list of names or addresses'),
        ('["192.0.2.1:80"]', 'server.addresses: "192.0.2.1:80" is not allowed; it takes a host name or an IP address'),
        ('["a", "b", "c", "d", "e"]', "server.addresses: 5 addresses is not allowed; it takes at most 4"),
    ],
)
def test_what_clients_are_told_is_a_few_names_or_addresses(path: Path, addresses: str, said: str) -> None:
    (only,) = problems(path, WEB.replace('["192.0.2.1"]', addresses))
    assert said in only


def test_no_service_may_have_one_of_the_other_knock_ports(path: Path) -> None:
    content = WEB.replace("[server]\n", "[server]\nmore_knock_ports = [443, 53]\n") + 'udp = ["50-60"]\n'
    assert problems(path, content) == [
        "server.toml: service.web.udp: udp port 53 is not allowed; it takes any port but server.more_knock_ports"
    ]


def test_a_service_may_have_the_tcp_port_of_a_knock_port(path: Path) -> None:
    content = WEB.replace("[server]\n", "[server]\nmore_knock_ports = [8443]\n")
    assert read(path, content).knock_ports == (62201, 8443)


@pytest.mark.parametrize("ports", ["[]", "[443, 53, 123]"])
def test_there_may_be_none_to_three_other_knock_ports(path: Path, ports: str) -> None:
    content = WEB.replace("[server]\n", f"[server]\nmore_knock_ports = {ports}\n")
    assert len(read(path, content).more_knock_ports) == ports.count(",") + (ports != "[]")


def test_two_services_may_have_one_number_in_two_protocols(path: Path) -> None:
    assert len(read(path, WEB + "[service.quic]\nudp = [8443]\nroles = ['a']\n").services) == 2


def test_there_are_at_most_64_services(path: Path) -> None:
    def services(count: int) -> str:
        return SERVER + "".join(f"[service.s{n}]\ntcp = [{n + 1}]\nroles = ['a']\n" for n in range(count))

    assert len(read(path, services(64)).services) == 64
    assert problems(path, services(65)) == ["server.toml: service: 65 services is not allowed; it takes at most 64"]


def test_all_mistakes_come_together(path: Path) -> None:
    found = problems(path, WEB.replace("8443", "0") + "lease_s = 0\nsauce = 1\n[service.B]\nudp = [62201]\n")
    keys = [line.split(": ")[1] for line in found]
    assert keys == [
        "service.web.tcp",
        "service.web.lease_s",
        "service.web.sauce",
        "service",
        "service.B.roles",
        "service.B.udp",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[server]\naddress 5\n", "server.toml: line 2, column 9: Expected '='"),
        (b"[server]\nlisten = [", "server.toml: line 2, column 11: "),
        (b"[server]\naddress = 'a'\naddress = 'b'\n", "server.toml: line 3, column 14: "),
        (b"[server]\n# \xff\n", "server.toml: line 2: this is not UTF-8 text"),
        (b"a = " + b"[" * 5000, "server.toml: it is nested too deeply"),
        (b"a = " + b"9" * 5000, "server.toml: "),
        (b"#" * ((1 << 20) + 1), "server.toml: it is larger than 1048576 bytes"),
        (b"[server]\nslots = 0x" + b"f" * 9000, "server.slots: a huge number is not allowed"),
    ],
)
def test_what_is_not_toml_is_told_with_its_place(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert said in str(caught.value)


def test_a_missing_file_says_what_makes_one(path: Path) -> None:
    with pytest.raises(ConfigError, match="run: spa-server init") as caught:
        load(path)
    assert len(caught.value.problems) == 1


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for unreadable in (tmp_path, Path("a\0b")):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(unreadable)
