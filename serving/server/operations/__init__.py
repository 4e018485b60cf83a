"""What the operator configures and observes: configuration, access, processes, metrics, logs, profiles."""
