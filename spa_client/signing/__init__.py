"""Whose hand signs: the places in which a device's key can be kept, and a Signer for each.

    place          what perimeter.toml says of it
    signers        from a place to a Signer
    own_key        a key made for one perimeter: plain, under a passphrase, or in the key ring
    key_file       a key in a file: the project's own form, or OpenSSH's
    openssh_file   OpenSSH's form of a private key
    agent          a key in ssh-agent, security keys among them
    agent_channel  how an agent is reached
    key_ring       the platform's key ring
    person         what only a person can do: type a passphrase, touch a key

Whatever goes wrong is an SpaError that says what to do. Nothing here knows what is signed.
"""
