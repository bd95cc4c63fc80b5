"""The rules, by what they look at: exact events, weights that are not trained, the loss head, the signal, images and labels, pace, generalising."""
