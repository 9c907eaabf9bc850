"""Envoy in front of the model servers: its configuration, its life, its counts."""

from headrace.serving.gateway.envoy import Gateway
from headrace.serving.gateway.model import CANARY, SHADOW, STABLE, Arm, ArmCounts, Mirror, Route, UserRequest

__all__ = ["CANARY", "SHADOW", "STABLE", "Arm", "ArmCounts", "Gateway", "Mirror", "Route", "UserRequest"]
