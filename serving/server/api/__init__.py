"""What clients call: PredictionService and ModelService, the gRPC server, and its reflection."""
