"""Training: the Learner and its loop, callbacks, schedules, checkpoints, and whole runs."""
