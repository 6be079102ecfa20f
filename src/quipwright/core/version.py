"""The version of the package, for manifests, cards and ``--version``."""

VERSION = "0.2.0"
