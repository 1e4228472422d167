"""The numbers that a configuration is checked by, apart from what uses them: reading one needs no cryptography.

It must import nothing.
"""

from __future__ import annotations

MAX_HOSTS = 4
"""Most names and addresses of one server."""
MAX_KNOCK_PORTS = 4
"""Most ports on which one server hears knocks."""
MIN_SLOTS = 16
"""Fewest knock slots a server arms for one device and window: what a client uses until it is told of more."""
MAX_SLOTS = 64
"""Most slots a server may arm for one device and window."""
DELEGATE_SLOTS = 8
"""Knock slots of each window for all delegates of one device together, until the server says otherwise."""
