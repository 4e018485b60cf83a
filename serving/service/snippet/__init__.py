"""The script for browsers."""
