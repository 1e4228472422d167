"""`spa-server status --watch`: who is inside and how things stand, on a terminal, once a second."""
