"""What `spa-client doctor` finds. It changes what a knock changes and nothing else, for it does knock."""
