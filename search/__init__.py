"""The top layer: evaluation of networks on machines, sweeps, reports and the command line."""
