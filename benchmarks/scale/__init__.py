"""What the commands cost as catalogue, audience and history grow."""
