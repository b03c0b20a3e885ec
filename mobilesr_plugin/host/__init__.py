"""Living inside BasicSR: the import hook, and repairs for faults that the plugin's users would meet.

``activation`` lists what is done and when. Each repair is a function named after the fault; it does
nothing where the fault is absent, so a BasicSR or torchvision that has been corrected stays untouched.
"""
