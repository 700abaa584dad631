"""Small programs for each framework: one training, and searches with Ashwood, Optuna and Ray Tune."""
