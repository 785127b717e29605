"""What causes what among values: effects of steering, and the graph behind them. Pure functions
over arrays."""
