"""The console: one page for people who want to see what the service does."""
