from hypothesis import settings

# A loaded machine is slow now and then; that is no fault of the code under test.
settings.register_profile("inverdict", deadline=None)
settings.load_profile("inverdict")
