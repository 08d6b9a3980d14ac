"""How does a plan get from a workstation onto a cluster, through nothing but Ray's Jobs API?"""
