"""What trains the networks: trainers, the stages of a run and its folder, workers. No network is here."""
