"""What is run by hand, and never by a build: costs, speed, releases, the successor.

It may import the site, the gate and the modules of `tools`; nothing but a test imports
from here.
"""
