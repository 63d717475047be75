"""Runs: trainings by name, each with a folder that holds all of it. What `tf-metalearn train` does, in Python too."""
