"""gRPC in front of core: messages in, one core call, messages out."""
