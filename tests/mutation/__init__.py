"""Whether the tests of the decision core notice each small change of it."""
