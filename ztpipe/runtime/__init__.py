"""What control is made of: each module turns the node's actions into the world, or the world into its events."""
