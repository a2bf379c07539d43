"""KEDA's external scaler, over gRPC."""
