"""Memory tiers and the traffic between them."""
