"""Cycles of the engines in closed form, equal to their RTL's, and the roofline that no run may beat."""
