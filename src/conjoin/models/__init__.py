"""Models: adapters, cards, and those that ship with the package."""
