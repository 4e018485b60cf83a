"""Models that are loaded: what runs their signatures, and what they bring with them."""
