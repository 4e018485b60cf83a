"""From a directory that appears to a version that answers, and back."""
