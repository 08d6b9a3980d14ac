"""How the plan is carried out on Ray; the only package that imports it."""
