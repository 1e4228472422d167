"""What makes the parts of a release that are not Python: manual pages, the client as a single file."""
