"""Live traffic over a real Envoy and real model servers, while rollouts move and processes are killed."""
