"""Which internals of Ray are touched? All of them are here, and nowhere else.

``state`` reads what Ray knows of nodes and actors, ``data`` keeps Ray Data inside a reservation,
and ``train`` puts Ray Train's workers into one. Apart, for whoever only asks after nodes should
not have to import torch. ``tests/runtime/test_internals.py`` fails loudly when any of them moves.
"""
