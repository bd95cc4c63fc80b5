"""The rules, by what they look at: exact events, the loss head, the signal, images and labels, pace, generalising."""
