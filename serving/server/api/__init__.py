"""The API for clients: PredictionService and ModelService, the gRPC server, and its reflection."""
