"""Runnable programs that measure and write JSON under ``runs/bench``."""
