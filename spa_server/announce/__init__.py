"""Telling people that something waits for their approval, from a process of its own.

It knows what stands on the notice board, a file that the server writes; neither the registry nor the firewall, for what
it runs and whom it speaks to is the operator's choice. Whatever happens to it, nothing waits for it.
"""
