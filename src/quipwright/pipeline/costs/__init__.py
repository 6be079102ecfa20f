"""What a run will ask of paid models, before anything is spent."""
