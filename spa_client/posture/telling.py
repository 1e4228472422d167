"""What a perimeter is told of this device's health: a setting of each perimeter.

A plain value.
"""

from __future__ import annotations

from enum import Enum


class Telling(Enum):
    """The values are what `perimeter.toml` says."""

    ON = "on"
    """What the client finds by itself."""
    OSQUERY = "osquery"
    """What an installed osquery says."""
    OFF = "off"
    """Nothing."""
