"""Simulations that the comparison's statistics are held to, and runs made up for its report."""
