"""Accelerators of language models at equal area: shapes, engines, published figures."""
