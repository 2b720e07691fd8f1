"""Of all tests: properties are tried on the same examples each time that the same tests run together, and an example may take its time.

Other examples: `pytest --hypothesis-profile=default`.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("tillwatch", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tillwatch")
