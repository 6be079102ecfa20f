"""The ground floor, which imports nothing else of the package: records, settings, errors, storage, statistics."""
