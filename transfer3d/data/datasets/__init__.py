"""The layouts that datasets come in: one file each, all giving a `Listing`."""
