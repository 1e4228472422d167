"""The live demonstration: one pinhole's whole life, with the real daemon, kernel and client, in private namespaces."""
