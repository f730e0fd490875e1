"""Makes small changes to the package, one at a time, and tells which of them no test notices; ``make mutants``.

Our own, for three reasons. mutmut wraps each function in a trampoline, which the tests that search frames for secrets
would see, and leaves out what stands outside functions, as a provider's declaration does. cosmic-ray changes the
working tree and runs one command for all changes. Neither draws a sample, and all changes to this package with all of
its tests would take weeks. Which tests run which line is coverage.py's work.
"""
