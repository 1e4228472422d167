"""Faults at random under a server that systemd keeps alive, and what must hold through all of them."""
