"""Is everything there that a run needs, here and on the cluster, and what mends it where not?"""
