"""Envoy in front of the model servers: its configuration, its life, its counts."""

from headrace.serving.gateway.envoy import Gateway
from headrace.serving.gateway.model import Arm, ArmCounts, Route

__all__ = ["Arm", "ArmCounts", "Gateway", "Route"]
