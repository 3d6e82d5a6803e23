"""What bench/run measures, one module for each measurement."""
