"""LUTs, gates and nets of a design: fitted component by component to synthesis (area, delay)."""
