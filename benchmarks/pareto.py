"""The targets of cost models and design-space exploration: `make bench SUITE=pareto`. Each module has
``run() -> list[Row]``."""

MODULES = ["cycle_error", "area_error", "area_scatter", "energy_model", "energy_reference", "estimate_speed",
           "pareto_run", "peer_cycles", "paper_answers", "schedule_spills", "search_front"]
