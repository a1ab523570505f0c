"""How fast and how small, in ratios: both sides of each are measured in the same run."""
