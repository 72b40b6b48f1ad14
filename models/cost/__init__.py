"""What an engine costs: cycles now; area and energy models build on the same designs."""
