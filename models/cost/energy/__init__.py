"""Energy of switching activity: liberty cells, gate-level traces, SRAM macros, figures of the literature."""
