"""Multipliers, adder trees, shifters, accumulators, rounding: the small parts that all engines share."""
