"""Inflation of 2D networks into 3D students: rules, account, proof."""
