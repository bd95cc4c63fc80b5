"""convscope: train convolutional networks and see exactly what happens inside them."""
