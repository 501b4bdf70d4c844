"""Four eyes: acts that wait until somebody else has approved exactly them."""
