"""The recommendation service: what an application calls, and what changes between two exports of a model."""
