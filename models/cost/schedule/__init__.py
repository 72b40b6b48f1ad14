"""Operators on a scratchpad (COSMA), formats of layers under a budget: integer programs and their checkers."""
