"""transfer3d turns image models into video models: inflation, correspondence, fine-tuning."""

__version__ = "0.1.0"
