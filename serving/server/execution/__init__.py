"""Loaded models: running their signatures, and the op libraries they need."""
