"""A serial line instead of a bus: UART, checked frames, and the bridge to a core's registers and streams."""
