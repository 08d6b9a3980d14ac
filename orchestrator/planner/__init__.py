"""Does it fit, what will it cost, what should it be?

Pure functions from values to values: pydantic and yaml are allowed, ray, torch and numpy are not.
"""
