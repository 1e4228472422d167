"""Speed, measured on this machine beside the peers; nothing here is a test, and no test asserts a time."""
