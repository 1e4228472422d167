"""`python -m spa_client`: the same as the program `spa-client`."""

from __future__ import annotations

from spa_client.commands import main

if __name__ == "__main__":
    main()
