"""The commented `server.toml` of a new server. It must not know where it is written."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spa_protocol.limits import MAX_HOSTS
from spa_server.addresses import reach_address
from spa_server.config import (
    DEFAULT_AUDIT_FILE_MIB,
    DEFAULT_AUDIT_FILES,
    DEFAULT_CONTROL_SOCKET,
    DEFAULT_DELEGATE_SLOTS,
    DEFAULT_KNOCK_PORT,
    DEFAULT_MAX_DELEGATION_S,
    DEFAULT_MAX_SKEW_S,
    DEFAULT_SLOTS,
    DEFAULT_STATE_FOLDER,
    DEFAULT_USER,
)
from spa_server.decide.risk import DEFAULT_WEIGHTS
from spa_server.risk_table import WEIGHTS
from spa_server.service import MAX_PORTS
from spa_server.service_table import BLANK

EXAMPLE_POLICY = "/etc/spa/policy.cedar"

_TEMPLATE = """\
# The configuration of spa-server. Lines that start with '#' and a key show the default, or an example where there is
# none; take the '#' away to change one. After an edit run: spa-server reload. It checks the whole file first, and where
# anything is wrong it says so and changes nothing.

[server]
# The names or addresses at which clients reach this host, at most four: one name that has both IPv4 and IPv6 addresses
# is best. They are written into every invite.
addresses = [{addresses}]

# The addresses of this host on which knocks are heard. "0.0.0.0" and "::" are all of them.
#listen = ["0.0.0.0", "::"]

# The UDP port for knocks. It answers nobody who cannot knock.
#knock_port = {knock_port}

# Up to three more UDP ports for knocks, for clients on networks that let out little else. Invites name them after the
# first. TCP on these ports, as on the first, reaches services only: no other program that listens there.
#more_knock_ports = [443, 53]

# Where devices, invites and used slots are kept: mode 0700, owned by the user below.
{state_folder}

# The socket through which the commands talk to the running server.
{control_socket}

# The system user as which the part that reads packets runs. It cannot be root.
{user}

# How far, in seconds, a client's clock may be off, either way: 1 to 600. More means more tags held open.
#max_skew_s = {max_skew_s}

# How many knocks a device may send in one minute: 16 to 64. Each is a one-time tag in the kernel. Clients learn the
# number from the server's answers, and use 16 until then.
#slots = {slots}

# Devices may delegate: let another key open some of their services for a while, by a certificate in each of its knocks.
# How many knocks all delegates of one device may send in one minute: {delegate_slots} to 64, or 0 for no delegation at
# all; and for how many seconds a delegation may run at most.
#delegate_slots = {delegate_slots}
#max_delegation_s = {max_delegation_s}

# Whether a verified knock is answered. With false clients must try the port to learn whether it opened.
#replies = true

# The audit trail: who was let in, refused, enrolled, put out, and what commands changed, one line of JSON each, so many
# MiB a file and so many files. It belongs to the user above. Where it cannot be written, nothing is granted; with
# audit_required = false what happens is granted all the same, kept in memory for a while, and an alarm is raised.
#audit_file = {audit_file}
#audit_file_mib = {audit_file_mib}
#audit_files = {audit_files}
#audit_required = true

# Who may open what, when, from where and in what state of health: a policy in Cedar. Without this key a device may open
# the services that its roles name. Try it before a reload with: spa-server policy check
{policy_file}

# Where Prometheus may read numbers: a loopback address and port, or the path of a Unix socket. Without it, nowhere.
#metrics = "127.0.0.1:9462"

# Where somebody else has to approve a knock (needs_approval below, and the policy): how long a wish waits, how long an
# approval holds when its approver does not say, and at most, all in seconds.
[approval]
#waits_s = 900
#valid_s = 1800
#longest_s = 28800

# By what people are told that something waits for them: a program, which gets a JSON object on its standard input, and
# an address to which the object is posted. The unit spa-notify does it: docs/approval.md.
#hook = "/usr/local/lib/spa/tell-approvers"
#webhook = "https://chat.example.org/hooks/spa"

# How risky a knock is, in points from 0 to 100, for the policy and the record to go by: docs/risk.md.
[risk]
# With false every score is 0, and nothing is learnt of anybody's networks and hours.
#enabled = true

# From which score a second factor is wanted, and from which nothing opens.
#step_up_from = {step_up_from}
#refuse_from = {refuse_from}

# Networks to be wary of, and a file of more: one network or address a line, what follows a '#' or ';' is a remark.
#block = ["192.0.2.0/24", "2001:db8::/32"]
#block_file = "/etc/spa/block.txt"

# Where networks are, for whoever was in two places at once: a database in MaxMind's format (.mmdb), or a file (.csv)
# with the columns network, latitude and longitude. Without it no knock is judged by where it comes from.
#location_file = "/etc/spa/places.mmdb"

# The points for each thing that speaks against a knock; 0 leaves it out.
[risk.weights]
{weights}

# Each service is a table [service.NAME]: ports that exist only for whoever holds a lease on them.
[service.web]
# The ports, as numbers or ranges such as "9000-9010"; at most {max_ports} in all, none in two services.
tcp = [8443]
#udp = [8443]

# Who may open it: devices with at least one of these roles.
roles = ["admin"]

# How long a lease lasts, in seconds, when the client does not say, and the longest that it can ask for.
#lease_s = {lease_s}
#max_lease_s = {max_lease_s}

# Which source address is opened. "seen": the one the knock came from, unless it names one; "signed": only one that the
# knock names under its signature.
#source = "seen"

# What becomes of open connections when the lease ends: "cut" or "keep".
#on_expiry = "cut"

# What the policy (policy.cedar) can go by: groups that the service belongs to, how much harm whoever gets in can do
# ("low", "normal" or "high"), and whether somebody has to approve each use.
#groups = ["consoles"]
#sensitivity = "normal"
#needs_approval = false

# The addresses at which the service is reached, where they differ from the one that was knocked at. Its ports are then
# closed at these and at this host's own; without hosts, at every address that this host forwards to, too.
#hosts = ["192.0.2.10", "2001:db8::10"]

# An inner host to which leased connections are redirected; a list for one target a family. Only for a single port of a
# protocol.
#forward_to = "10.0.0.5:443"

# With forward_to: whether the inner host sees this host's address as the source instead of the client's.
#masquerade = false
"""


def template(
    addresses: Sequence[str],
    *,
    state_folder: str = DEFAULT_STATE_FOLDER,
    control_socket: str = DEFAULT_CONTROL_SOCKET,
    user: str = DEFAULT_USER,
    policy_file: str = "",
) -> str:
    """The commented server.toml of a new server that clients reach at the addresses.

    Raises ValueError for an address that nobody could reach, or for more than MAX_HOSTS.
    """
    if not 1 <= len(addresses) <= MAX_HOSTS:
        raise ValueError(f"a server has one to {MAX_HOSTS} names or addresses")
    return _TEMPLATE.format(
        addresses=", ".join(_quoted(reach_address(address)) for address in addresses),
        knock_port=DEFAULT_KNOCK_PORT,
        state_folder=_line("state_folder", state_folder, DEFAULT_STATE_FOLDER),
        control_socket=_line("control_socket", control_socket, DEFAULT_CONTROL_SOCKET),
        user=_line("user", user, DEFAULT_USER),
        max_skew_s=DEFAULT_MAX_SKEW_S,
        slots=DEFAULT_SLOTS,
        delegate_slots=DEFAULT_DELEGATE_SLOTS,
        max_delegation_s=DEFAULT_MAX_DELEGATION_S,
        policy_file=_line("policy_file", policy_file or EXAMPLE_POLICY, "" if policy_file else EXAMPLE_POLICY),
        audit_file=_quoted(f"{state_folder.rstrip('/')}/audit.jsonl"),
        audit_file_mib=DEFAULT_AUDIT_FILE_MIB,
        audit_files=DEFAULT_AUDIT_FILES,
        step_up_from=DEFAULT_WEIGHTS.step_up_from,
        refuse_from=DEFAULT_WEIGHTS.refuse_from,
        weights="\n".join(f"#{name} = {getattr(DEFAULT_WEIGHTS, name)}" for name in WEIGHTS),
        max_ports=MAX_PORTS,
        lease_s=BLANK.lease_s,
        max_lease_s=BLANK.max_lease_s,
    )


def _line(key: str, value: str, default: str) -> str:
    """A line of the template: a comment where the value is the default."""
    return f"{'#' if value == default else ''}{key} = {_quoted(value)}"


def _quoted(value: str) -> str:
    """Text as a TOML basic string; JSON's form is one, as long as characters beyond 16 bits are left as they are."""
    return json.dumps(value, ensure_ascii=False)
