"""The command line; its modules import torch only inside the commands."""
