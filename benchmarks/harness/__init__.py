"""Shared by all benchmarks: command line, results, tables, timing, and model servers."""
