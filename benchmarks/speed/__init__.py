"""Speed of the server, the index and the encoder, and the server under attack."""
