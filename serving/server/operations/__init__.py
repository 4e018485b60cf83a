"""What who runs the server sets and sees: configuration, access, processes, metrics, logs, profiles."""
