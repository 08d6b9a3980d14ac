"""How far is the planner from what others measured and published?"""
