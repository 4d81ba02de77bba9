"""From a 2D network's weights to a student's, with an account of every tensor and a proof."""
