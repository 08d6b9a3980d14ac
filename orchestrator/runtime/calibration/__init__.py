"""How fast are this cluster's cores, links, disks, and Ray itself? Measured, not looked up."""
