"""The lifecycle of versions: from a new directory to a version that serves requests, and back."""
