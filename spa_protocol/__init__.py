"""What a client and a server of the perimeter must agree on: bytes in, values out.

Nothing in this package opens a socket, reads a file, asks the time or draws a random number: those are arguments.
`docs/protocol.md` is the specification; the modules follow its sections by name.

    keys        section 2  secrets, derived keys, the Ed25519 and X25519 operations
    signature   section 2  the kinds of key a device may have, and how each signs
    tag         section 3  windows, slots, one-time tags
    seal        section 4  the 512-byte datagram, sealing and signing
    knock       section 5  the request to open services
    delegation  section 5  the certificate by which a device lets another key knock in its stead
    enrolment   section 6  the request to become a known device
    answer      section 7  what the server says to a verified request
    text        section 8  keys and invites as text with a prefix and a checksum
    place       section 8  where a server is: its hosts and knock ports
    invite      section 8  what an invite holds
    openssh     section 2  OpenSSH's forms of keys and signatures
    provision   what a device is handed whose key the server knew before
    delegation_text  section 8  what the text of a delegation holds
    refusal     section 9  every reason for which a request is refused
"""
