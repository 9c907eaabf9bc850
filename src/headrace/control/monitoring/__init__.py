"""What is watched of a service while no rollout moves it."""
