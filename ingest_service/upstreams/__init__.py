"""Ways to reach an external API."""
