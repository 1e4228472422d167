"""A long time of work in a short one: what the server holds must not grow with what it has done."""
