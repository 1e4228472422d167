"""A security key in software: what an authenticator and OpenSSH make of it together, for tests.

Each signature is made with the flags and the counter that it was given, so that the same bytes come out each time; a
real one counts, and asks for a touch. It must not know what it signs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spa_protocol.keys import public_key, sign
from spa_protocol.signature import TOUCHED, Signature, VerifyingKey, sk_signed


@dataclass(frozen=True, slots=True)
class SecurityKey:
    """A Signer of the kind `sk-ssh-ed25519@openssh.com`."""

    seed: bytes = field(repr=False)
    application: str = "ssh:"
    flags: int = TOUCHED
    counter: int = 1

    @property
    def key(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(public_key(self.seed), self.application)

    @property
    def every_time(self) -> bool:
        """A real one has to be touched."""
        return False

    def sign(self, message: bytes) -> Signature:
        """The signature, as if it had been touched (or not, by its flags)."""
        bare = Signature(b"", self.flags, self.counter)
        return Signature(sign(self.seed, sk_signed(self.application, bare.proof, message)), self.flags, self.counter)
