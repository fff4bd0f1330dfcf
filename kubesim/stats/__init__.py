"""What came out: measurement windows, percentiles, utilisation, and theory to hold simulations against."""
