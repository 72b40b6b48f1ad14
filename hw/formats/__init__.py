"""Decode and encode between a code and (sign, significand, shift) or a fixed-point integer."""
