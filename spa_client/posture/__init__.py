"""What this device can say of its own health: looked for without root, and never more than it knows."""
