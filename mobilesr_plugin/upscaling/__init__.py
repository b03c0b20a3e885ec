"""Pictures and videos through a network: reading, tiles, colour, writing."""
