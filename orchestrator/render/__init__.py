"""How does a plan look to a cluster manager? Kubernetes manifests and Slurm scripts as text.

Pure: plain values in, text out. Does not talk to any cluster, and does not know which nodes there
are; it says what there should be.
"""
