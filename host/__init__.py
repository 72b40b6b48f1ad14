"""Drivers of the cores: Python over an abstract transport, and freestanding C."""
