"""The algebra and its drivers: quantities, slices, distributions, threats, results."""
