"""The keeper: the firewall process as a whole, which puts the perimeter up, keeps it up, and opens leases when asked.

It must not know the network process's part: no knock, no registry, no key.
"""
