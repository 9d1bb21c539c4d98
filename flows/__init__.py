"""Prefect flows around the work of `deblur.job`. Prefect is imported here and nowhere else."""
