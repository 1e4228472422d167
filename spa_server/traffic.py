"""What went through a session: pure data, counted on the kernel's side and told on the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets and bytes (IP headers included) from the client, in, and to it, out."""

    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.packets_in + other.packets_in,
            self.octets_in + other.octets_in,
            self.packets_out + other.packets_out,
            self.octets_out + other.octets_out,
        )

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.packets_in - other.packets_in,
            self.octets_in - other.octets_in,
            self.packets_out - other.packets_out,
            self.octets_out - other.octets_out,
        )
