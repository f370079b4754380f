"""The engine: solvers, snapshots, and the commands that run nets."""
