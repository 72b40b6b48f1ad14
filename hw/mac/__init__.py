"""Dot units and, later, arrays and co-processors."""
