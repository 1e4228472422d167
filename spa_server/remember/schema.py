"""The tables of the state file, and their version.

Knows SQL only. What a row means is told by the module that reads it: `registry` (device, credential, invite),
`delegations` (delegation, revoked_delegation), `used` (used, used_floor, used_forced), `users` (user, factor),
`requests` (request, approval), `sources` (source_of_device), `baseline` (baseline_network, baseline_hours,
baseline_place, baseline_posture), `sessions` (live_session), `refusals` (refusal) and `fence` (boot).
"""

from __future__ import annotations

VERSION = 3
"""Kept in `PRAGMA user_version`. 0 is a file that was never filled."""

_DELEGATIONS = (
    # What was seen of each delegation: its certificate comes with every knock, so nothing hangs on these rows.
    """
    CREATE TABLE delegation (
      device_id INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
      name TEXT NOT NULL,
      services TEXT NOT NULL,
      issued_s INTEGER NOT NULL,
      expires_s INTEGER NOT NULL,
      last_s INTEGER NOT NULL,
      PRIMARY KEY (device_id, name, issued_s)
    ) STRICT, WITHOUT ROWID
    """,
    # An empty name stands for every delegate of the device.
    """
    CREATE TABLE revoked_delegation (
      device_id INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
      name TEXT NOT NULL,
      up_to_s INTEGER NOT NULL,
      PRIMARY KEY (device_id, name)
    ) STRICT, WITHOUT ROWID
    """,
)

_USERS = (
    # `totp`: the secret of one-time codes; `used_step`: the step of time of the code used last; `tries`: wrong codes
    # since `tried_s`.
    """
    CREATE TABLE user (
      name TEXT PRIMARY KEY,
      enabled INTEGER NOT NULL,
      totp BLOB,
      used_step INTEGER NOT NULL DEFAULT -1,
      tries INTEGER NOT NULL DEFAULT 0,
      tried_s INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID
    """,
    # When a device last gave a second factor. By its label, which may come again with another key: see `users`.
    """
    CREATE TABLE factor (
      label TEXT PRIMARY KEY,
      given_s INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
_REQUESTS = (
    """
    CREATE TABLE request (
      number INTEGER PRIMARY KEY,
      user TEXT NOT NULL,
      device TEXT NOT NULL,
      service TEXT NOT NULL,
      asked_s INTEGER NOT NULL,
      waits_until_s INTEGER NOT NULL,
      denied_by TEXT NOT NULL,
      revoked INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE approval (
      number INTEGER NOT NULL REFERENCES request (number) ON DELETE CASCADE,
      by_user TEXT NOT NULL,
      until_s INTEGER NOT NULL,
      PRIMARY KEY (number, by_user)
    ) STRICT, WITHOUT ROWID
    """,
)
_BASELINES = (
    """
    CREATE TABLE baseline_network (
      user TEXT NOT NULL,
      network TEXT NOT NULL,
      first_s INTEGER NOT NULL,
      last_s INTEGER NOT NULL,
      PRIMARY KEY (user, network)
    ) STRICT, WITHOUT ROWID
    """,
    # `samples`: 24 numbers with blanks between them; `last_hour`: the hour since 1970 that was counted last.
    """
    CREATE TABLE baseline_hours (
      user TEXT PRIMARY KEY,
      samples TEXT NOT NULL,
      last_hour INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # `family`: 4 or 6; databases put the two addresses of one host in different places.
    """
    CREATE TABLE baseline_place (
      user TEXT NOT NULL,
      family INTEGER NOT NULL,
      latitude REAL NOT NULL,
      longitude REAL NOT NULL,
      last_s INTEGER NOT NULL,
      PRIMARY KEY (user, family)
    ) STRICT, WITHOUT ROWID
    """,
    # By label, as leases have it, so that delegates have theirs. `facts`: the names of four facts, blanks between them.
    """
    CREATE TABLE baseline_posture (
      label TEXT PRIMARY KEY,
      facts TEXT NOT NULL,
      patch_age_days INTEGER,
      last_s INTEGER NOT NULL,
      worse_since_s INTEGER
    ) STRICT, WITHOUT ROWID
    """,
)
_SESSIONS = (
    # Every lease that was granted and may not have ended: so that a process that starts knows who is inside. `facts` is
    # the writer's own text; `spared` is set by a command that shuts somebody out and leaves them what they have open.
    """
    CREATE TABLE live_session (
      label TEXT NOT NULL,
      source TEXT NOT NULL,
      destination TEXT NOT NULL,
      service TEXT NOT NULL,
      boot_id TEXT NOT NULL,
      facts TEXT NOT NULL,
      spared INTEGER NOT NULL DEFAULT 0,
      PRIMARY KEY (label, source, destination, service)
    ) STRICT, WITHOUT ROWID
    """,
)
_TRUST = (*_USERS, *_BASELINES, *_REQUESTS, *_SESSIONS)

TABLES = (
    """
    CREATE TABLE device (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      label TEXT NOT NULL UNIQUE,
      user TEXT NOT NULL,
      roles TEXT NOT NULL,
      enabled INTEGER NOT NULL,
      created_s INTEGER NOT NULL
    ) STRICT
    """,
    # The number that stands for one (public key, gate secret) pair in the table of used slots, for as long as this
    # file lives. It outlasts the device: were a removed device added again with the same secrets under a new number,
    # a datagram it had already used would be fresh once more.
    """
    CREATE TABLE credential_number (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      fingerprint BLOB NOT NULL UNIQUE
    ) STRICT
    """,
    """
    CREATE TABLE credential (
      id INTEGER PRIMARY KEY REFERENCES credential_number (id),
      device_id INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
      public_key BLOB NOT NULL,
      gate_secret BLOB NOT NULL UNIQUE,
      created_s INTEGER NOT NULL,
      retires_s INTEGER
    ) STRICT
    """,
    "CREATE INDEX credential_of_device ON credential (device_id)",
    "CREATE INDEX credential_by_key ON credential (public_key)",
    """
    CREATE TABLE invite (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      label TEXT NOT NULL,
      user TEXT NOT NULL,
      roles TEXT NOT NULL,
      gate_secret BLOB NOT NULL UNIQUE,
      exchange_key BLOB,
      created_s INTEGER NOT NULL,
      expires_s INTEGER NOT NULL,
      overlap_s INTEGER NOT NULL,
      used_by_key BLOB,
      used_exchange BLOB
    ) STRICT
    """,
    # The key begins with the window: new rows go to the end and pruning deletes one contiguous stretch.
    """
    CREATE TABLE used (
      window INTEGER NOT NULL,
      credential_id INTEGER NOT NULL,
      slot INTEGER NOT NULL,
      PRIMARY KEY (window, credential_id, slot)
    ) STRICT, WITHOUT ROWID
    """,
    # credential_id 0 stands for every credential.
    """
    CREATE TABLE used_floor (
      credential_id INTEGER PRIMARY KEY,
      first_window INTEGER NOT NULL
    ) STRICT
    """,
    # The newest window that was used, always forced to the disk before anything opens in it.
    """
    CREATE TABLE used_forced (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      window INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE source_of_device (
      label TEXT NOT NULL,
      source TEXT NOT NULL,
      last_s INTEGER NOT NULL,
      PRIMARY KEY (label, source)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE refusal (
      place INTEGER PRIMARY KEY,
      number INTEGER NOT NULL UNIQUE,
      time_ms INTEGER NOT NULL,
      label TEXT,
      source TEXT NOT NULL,
      reason TEXT NOT NULL,
      about TEXT NOT NULL,
      skew_ms INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE boot (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      boot_id TEXT NOT NULL,
      fenced_at_boottime_ms INTEGER
    ) STRICT
    """,
    *_DELEGATIONS,
    *_TRUST,
)

UPGRADES = {1: _DELEGATIONS, 2: _TRUST}
"""What makes of a file of each older version one of the next."""
